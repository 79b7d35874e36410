// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title Play money with the decimals and the permit of USDC, for development chains: anybody may mint.
contract DevDollar is ERC20, ERC20Permit {
    constructor() ERC20("Development Dollar", "DEVUSD") ERC20Permit("Development Dollar") {}

    /// @notice Makes tokens out of nothing.
    /// @param to Who gets them.
    /// @param amount Base units.
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    /// @inheritdoc ERC20
    function decimals() public pure override returns (uint8) {
        return 6;
    }
}
