// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ICreditVault} from "../../src/interfaces/ICreditVault.sol";
import {OperatorRegistry} from "../../src/OperatorRegistry.sol";
import {SiteRegistry} from "../../src/SiteRegistry.sol";
import {World} from "../World.sol";
// Compiled for bench/gas.py.
import {Chequebook} from "../bench/Chequebook.sol";
import {Collector} from "../bench/Collector.sol";

/// @dev What calls cost as transactions of their own: base fee and calldata included, nothing warm before them.
/// check.sh compares what they cost with snapshots/.
/// forge-config: default.isolate = true
contract GasTest is World {
    uint256 private constant OWNERS = 200;

    address[] private owners;

    function setUp() public override {
        super.setUp();
        for (uint256 i = 0; i < OWNERS; ++i) {
            owners.push(makeAddr(vm.toString(i)));
            fund(owners[i], 1000e6);
            vm.prank(owners[i]);
            vault.allocate(operator, 1, 100e6, 1, NOW, NOW + 30 days);
        }
        fund(operator, 1);
    }

    function test_gasOfSettling() public {
        _settle(1_000_000);
        _settle(2_000_000);
        uint256 each = vm.snapshotGasLastCall("CreditVault", "settle 200, again") / OWNERS;
        assertLt(each, 12_000, "goal");
        vm.prank(operator);
        vault.settle(one(owners[0], 1, 3_000_000), ROOT);
        vm.snapshotGasLastCall("CreditVault", "settle 1, again");
        skip(1 days);
        bytes32[] memory ids = _ids();
        vault.settleStreams(ids);
        vm.snapshotGasLastCall("CreditVault", "settleStreams 200");
        skip(40 days);
        vault.release(ids);
        vm.snapshotGasLastCall("CreditVault", "release 200");
    }

    function test_gasOfOwners() public {
        dollar.mint(owner, 100);
        vm.startPrank(owner);
        dollar.approve(address(vault), 100);
        vault.deposit(50);
        vm.snapshotGasLastCall("CreditVault", "deposit, again");
        vault.depositFor(stranger, 50);
        vm.snapshotGasLastCall("CreditVault", "depositFor, first");
        vault.allocate(operator, 1, 100e6, 1, NOW, NOW + 30 days);
        vm.snapshotGasLastCall("CreditVault", "allocate, first");
        vault.raiseAllocation(operator, 1, 200e6, NOW + 40 days);
        vm.snapshotGasLastCall("CreditVault", "raiseAllocation");
        vault.endAllocation(operator, 1);
        vm.snapshotGasLastCall("CreditVault", "endAllocation");
        vault.voidAllocation(operator, 9);
        vm.snapshotGasLastCall("CreditVault", "voidAllocation");
        vault.transfer(operator, 1);
        vm.snapshotGasLastCall("CreditVault", "transfer");
        vault.requestWithdrawal(1e6);
        vm.snapshotGasLastCall("CreditVault", "requestWithdrawal");
        vault.cancelWithdrawal();
        vm.snapshotGasLastCall("CreditVault", "cancelWithdrawal");
        vault.requestWithdrawal(1e6);
        skip(4 days);
        vault.withdraw(owner);
        vm.snapshotGasLastCall("CreditVault", "withdraw, first");
        vm.stopPrank();
        ICreditVault.Allocation memory a = terms(2, 100, 1);
        bytes memory signature = signed(ownerKey, vault.allocationDigest(a));
        vault.allocateBySignature(a, signature);
        vm.snapshotGasLastCall("CreditVault", "allocateBySignature, second");
    }

    function test_gasOfRegistries() public {
        address treasury = makeAddr("treasury");
        OperatorRegistry operators = new OperatorRegistry(vault, treasury, 100e6);
        SiteRegistry sites = new SiteRegistry(vault, treasury, 5e6, 1e6, 0);
        vm.startPrank(owner);
        vault.approve(address(operators), type(uint256).max);
        vault.approve(address(sites), type(uint256).max);
        operators.register(100e6, new bytes(38), "https://node.example", ROOT);
        vm.snapshotGasLastCall("OperatorRegistry", "register");
        operators.deregister();
        vm.snapshotGasLastCall("OperatorRegistry", "deregister");
        skip(14 days);
        operators.withdrawStake();
        vm.snapshotGasLastCall("OperatorRegistry", "withdrawStake");
        bytes10 site = sites.registerSite("blog");
        vm.snapshotGasLastCall("SiteRegistry", "registerSite");
        sites.revokeDelegations(site, 1);
        vm.snapshotGasLastCall("SiteRegistry", "revokeDelegations");
        sites.transferFrom(owner, stranger, uint80(site));
        vm.snapshotGasLastCall("SiteRegistry", "transferFrom of a site");
        sites.commit(sites.commitmentOf("blog", owner, "secret"));
        vm.snapshotGasLastCall("SiteRegistry", "commit");
        skip(1 minutes);
        sites.register("blog", owner, 365 days, "secret");
        vm.snapshotGasLastCall("SiteRegistry", "register");
        sites.renew("blog", 365 days);
        vm.snapshotGasLastCall("SiteRegistry", "renew");
        sites.setSite("blog", site);
        vm.snapshotGasLastCall("SiteRegistry", "setSite");
        sites.setContenthash("blog", new bytes(38));
        vm.snapshotGasLastCall("SiteRegistry", "setContenthash");
    }

    function _settle(uint96 total) private {
        ICreditVault.Charge[] memory charges = new ICreditVault.Charge[](OWNERS);
        for (uint256 i = 0; i < OWNERS; ++i) {
            charges[i] = ICreditVault.Charge(owners[i], 1, total);
        }
        vm.prank(operator);
        vault.settle(charges, ROOT);
    }

    function _ids() private view returns (bytes32[] memory ids) {
        ids = new bytes32[](OWNERS);
        for (uint256 i = 0; i < OWNERS; ++i) {
            ids[i] = vault.allocationId(owners[i], operator, 1);
        }
    }
}
