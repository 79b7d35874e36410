// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {Script, console} from "forge-std/Script.sol";

import {CreditVault} from "../src/CreditVault.sol";
import {OperatorRegistry} from "../src/OperatorRegistry.sol";
import {SiteRegistry} from "../src/SiteRegistry.sol";
import {IPermit2} from "../src/interfaces/IPermit2.sol";
import {IPriceFeed} from "../src/interfaces/IPriceFeed.sol";

/// @title Deploys all contracts of a network. The figures come from the environment (contracts/README.md).
contract Deploy is Script {
    struct Deployed {
        TimelockController timelock;
        CreditVault vault;
        OperatorRegistry operators;
        SiteRegistry sites;
    }

    /// @notice Deploys with the account that forge is told of, and prints what belongs into config/NETWORK.toml.
    function run() external returns (Deployed memory deployed) {
        address council = vm.envAddress("COUNCIL");
        address treasury = vm.envAddress("TREASURY");
        vm.startBroadcast();
        deployed.timelock = _timelock(council);
        deployed.vault = new CreditVault(
            CreditVault.Settings({
                token: IERC20Metadata(vm.envAddress("TOKEN")),
                permit2: IPermit2(vm.envOr("PERMIT2", address(0))),
                feed: IPriceFeed(vm.envOr("FEED", address(0))),
                maxPriceAge: vm.envOr("MAX_PRICE_AGE", uint256(1 hours)),
                desk: treasury,
                spread: vm.envOr("SPREAD", uint256(100)),
                timelock: address(deployed.timelock)
            })
        );
        // forge-lint: disable-start(unsafe-typecast) -- figures of the one who deploys
        deployed.operators =
            new OperatorRegistry(deployed.vault, treasury, uint96(vm.envOr("MIN_STAKE", uint256(100e6))));
        deployed.sites = new SiteRegistry(
            deployed.vault,
            treasury,
            uint96(vm.envOr("YEAR_PRICE", uint256(5e6))),
            uint96(vm.envOr("TRANSFER_FEE", uint256(1e6))),
            vm.envOr("BASE_NODE", bytes32(0))
        );
        // forge-lint: disable-end(unsafe-typecast)
        vm.stopBroadcast();
        console.log("timelock", address(deployed.timelock));
        console.log("vault", address(deployed.vault));
        console.log("operators", address(deployed.operators));
        console.log("sites", address(deployed.sites));
    }

    /// @dev The council proposes; when the delay is over anybody executes. Nobody can change this but itself.
    function _timelock(address council) private returns (TimelockController) {
        address[] memory proposers = new address[](1);
        proposers[0] = council;
        address[] memory executors = new address[](1);
        return
            new TimelockController(
                vm.envOr("TIMELOCK_DELAY", uint256(1 days)), proposers, executors, address(0)
            );
    }
}
