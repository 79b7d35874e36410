// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";

import {CreditVault} from "../src/CreditVault.sol";
import {ICreditVault} from "../src/interfaces/ICreditVault.sol";
import {World} from "./World.sol";

contract PausingTest is World {
    function test_whatAPauseStops() public {
        fund(desk, 1000e6);
        ICreditVault.Allocation memory a = terms(2, 100, 1);
        bytes memory signature = signed(ownerKey, vault.allocationDigest(a));
        grant(1, 1000, 1);
        vm.prank(timelock);
        vault.pause();
        bytes[] memory calls = new bytes[](8);
        calls[0] = abi.encodeCall(vault.deposit, (1));
        calls[1] = abi.encodeCall(vault.depositFor, (owner, 1));
        calls[2] = abi.encodeCall(vault.depositWithPermit, (owner, 1, 0, 0, 0, 0));
        calls[3] = abi.encodeCall(vault.depositWithPermit2, (owner, owner, 1, 0, 0, ""));
        calls[4] = abi.encodeCall(vault.depositNative, (owner, 0));
        calls[5] = abi.encodeCall(vault.allocate, (operator, 2, 1, 0, NOW, NOW + 1));
        calls[6] = abi.encodeCall(vault.allocateBySignature, (a, signature));
        calls[7] = abi.encodeCall(vault.raiseAllocation, (operator, 1, 2000, type(uint40).max));
        for (uint256 i = 0; i < calls.length; ++i) {
            vm.prank(owner);
            (bool ok, bytes memory answer) = address(vault).call(calls[i]);
            assertFalse(ok);
            assertEq(answer, abi.encodeWithSelector(ICreditVault.DepositsPaused.selector, NOW + 7 days));
        }
        vm.warp(NOW + 7 days);
        vault.allocateBySignature(a, signature);
    }

    function test_whatAPauseDoesNotStop() public {
        bytes32 a = grant(1, 1000, 1);
        bytes32 b = grant(2, 1000, 1);
        vm.prank(owner);
        vault.requestWithdrawal(10);
        skip(26 days);
        vm.prank(timelock);
        vault.pause();
        charge(1, 100);
        vault.settleStreams(list(a));
        vm.prank(operator);
        vault.relinquish(list(b));
        vm.startPrank(owner);
        vault.transfer(stranger, 1);
        vault.withdraw(owner);
        vault.requestWithdrawal(10);
        vault.cancelWithdrawal();
        vault.endAllocation(operator, 1);
        skip(4 days + 1);
        vault.release(list(a));
        vault.requestWithdrawal(vault.accountOf(owner).available);
        assertLt(block.timestamp, vault.pausedUntil());
    }

    function testFuzz_pausesEndAndAreRare(uint40 wait, bool endedEarly) public {
        wait = uint40(bound(wait, 0, 60 days));
        vm.startPrank(timelock);
        vm.expectEmit();
        emit ICreditVault.PausedUntil(NOW + 7 days);
        vault.pause();
        if (endedEarly) {
            vault.unpause();
            assertEq(vault.pausedUntil(), NOW);
        }
        skip(wait);
        if (wait < 21 days) {
            vm.expectRevert(abi.encodeWithSelector(ICreditVault.TooEarly.selector, NOW + 21 days));
        }
        vault.pause();
    }

    function testFuzz_onlyTheTimelockPauses(address who) public {
        vm.assume(who != timelock);
        vm.startPrank(who);
        reverts(bytes4(keccak256("OwnableUnauthorizedAccount(address)")));
        vault.pause();
        reverts(bytes4(keccak256("OwnableUnauthorizedAccount(address)")));
        vault.unpause();
    }

    function test_throughATimelockController() public {
        address[] memory council = new address[](1);
        council[0] = stranger;
        TimelockController controller = new TimelockController(1 days, council, new address[](1), address(0));
        CreditVault.Settings memory s = settings();
        s.timelock = address(controller);
        vault = new CreditVault(s);
        bytes memory call = abi.encodeCall(vault.pause, ());
        vm.prank(stranger);
        controller.schedule(address(vault), 0, call, 0, 0, 1 days);
        vm.expectRevert();
        controller.execute(address(vault), 0, call, 0, 0);
        skip(1 days);
        controller.execute(address(vault), 0, call, 0, 0);
        assertGt(vault.pausedUntil(), block.timestamp);
    }
}
