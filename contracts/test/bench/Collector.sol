// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

/// @title To compare with: the cheapest way to be paid in a plain token, collecting from many in one transaction
/// what each approved. It checks nothing of what the vault does.
contract Collector {
    function collect(IERC20 token, address[] calldata from, uint256 amount) external {
        for (uint256 i = 0; i < from.length; ++i) {
            require(token.transferFrom(from[i], msg.sender, amount), "refused");
        }
    }
}
