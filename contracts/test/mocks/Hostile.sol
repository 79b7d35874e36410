// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {IERC721Receiver} from "@openzeppelin/contracts/token/ERC721/IERC721Receiver.sol";

import {IPermit2} from "../../src/interfaces/IPermit2.sol";
import {IPriceFeed} from "../../src/interfaces/IPriceFeed.sol";

/// @dev A token that keeps a fee, lies, refuses, or calls back while it moves, as told.
contract HostileToken is ERC20("Hostile", "HOST") {
    uint256 public fee;
    bool public lies;
    bool public refuses;
    address public target;
    bytes public call;
    bool public succeeded;
    bytes public answer;

    function decimals() public pure override returns (uint8) {
        return 6;
    }

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function setFee(uint256 value) external {
        fee = value;
    }

    function setLies(bool value) external {
        lies = value;
    }

    function setRefuses(bool value) external {
        refuses = value;
    }

    function setCall(address to, bytes calldata data) external {
        (target, call) = (to, data);
    }

    function transferFrom(address from, address to, uint256 value) public override returns (bool) {
        if (lies) return true;
        return super.transferFrom(from, to, value);
    }

    function _update(address from, address to, uint256 value) internal override {
        require(!refuses, "refused");
        if (target != address(0)) {
            (succeeded, answer) = target.call(call);
        }
        super._update(from, to, value);
        if (fee != 0 && from != address(0) && to != address(0)) super._update(to, address(1), fee);
    }
}

/// @dev A token with eighteen decimals.
contract WrongDecimals is ERC20("Wrong", "WRONG") {}

/// @dev A feed that answers as told, or reverts.
contract HostileFeed is IPriceFeed {
    int256 public answer = 1;
    uint256 public updatedAt = 1;
    bool public broken;

    function set(int256 value, uint256 when, bool fails) external {
        (answer, updatedAt, broken) = (value, when, fails);
    }

    function decimals() external pure returns (uint8) {
        return 8;
    }

    function latestRoundData() external view returns (uint80, int256, uint256, uint256, uint80) {
        require(!broken, "broken");
        return (1, answer, updatedAt, updatedAt, 1);
    }
}

/// @dev A Permit2 that moves nothing.
contract IdlePermit2 is IPermit2 {
    function permitWitnessTransferFrom(
        PermitTransferFrom calldata,
        SignatureTransferDetails calldata,
        address,
        bytes32,
        string calldata,
        bytes calldata
    ) external {}
}

/// @dev A contract that takes no coins, unless told to, and calls back when it gets some.
contract HostileReceiver is IERC721Receiver {
    bool public takes;
    address public target;
    bytes public call;
    bool public succeeded;

    function set(bool accepts, address to, bytes calldata data) external {
        (takes, target, call) = (accepts, to, data);
    }

    function run(address to, bytes calldata data) external payable returns (bool ok) {
        (ok,) = to.call{value: msg.value}(data);
    }

    function onERC721Received(address, address, uint256, bytes calldata) external returns (bytes4) {
        if (target != address(0)) (succeeded,) = target.call(call);
        return takes ? IERC721Receiver.onERC721Received.selector : bytes4(0);
    }

    receive() external payable {
        require(takes, "refused");
        if (target != address(0)) (succeeded,) = target.call(call);
    }
}

/// @dev Answers a question for a signature by looking around, without end, or with nonsense.
contract HostileWallet {
    uint256 public mode;

    function set(uint256 value) external {
        mode = value;
    }

    function isValidSignature(bytes32, bytes calldata) external view returns (bytes memory) {
        if (mode == 0) revert("no");
        if (mode == 1) return new bytes(10_000);
        if (mode == 2) {
            // A call back cannot change anything: the question is a static call.
            (bool ok,) = address(this).staticcall(abi.encodeCall(this.change, ()));
            require(ok, "static");
        }
        return "";
    }

    function change() external {
        mode = 9;
    }
}
