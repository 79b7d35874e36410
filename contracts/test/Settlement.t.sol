// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ICreditVault} from "../src/interfaces/ICreditVault.sol";
import {World} from "./World.sol";

contract SettlementTest is World {
    function testFuzz_settle(uint96 cap, uint96[6] memory totals) public {
        cap = uint96(bound(cap, 1, AMPLE));
        bytes32 allocation = grant(1, cap, 0);
        uint256 expected;
        for (uint256 i = 0; i < totals.length; ++i) {
            totals[i] = uint96(bound(totals[i], 0, uint256(cap) * 5 / 4));
            charge(1, totals[i]);
            if (totals[i] <= cap && totals[i] > expected) expected = totals[i];
            assertEq(vault.allocationOf(allocation).metered, expected);
            assertEq(available(operator), expected);
            assertEq(vault.accountOf(owner).balance, AMPLE - expected);
            assertEq(vault.accountOf(owner).reserved, cap - expected);
        }
    }

    function test_eventsOfABatch() public {
        bytes32 a = grant(1, 1000, 0);
        bytes32 b = grant(2, 1000, 0);
        bytes32 c = grant(3, 1000, 0);
        charge(3, 500);
        ICreditVault.Charge[] memory charges = new ICreditVault.Charge[](5);
        charges[0] = ICreditVault.Charge(owner, 1, 300);
        charges[1] = ICreditVault.Charge(owner, 2, 1001);
        charges[2] = ICreditVault.Charge(owner, 3, 500);
        charges[3] = ICreditVault.Charge(owner, 9, 1);
        charges[4] = ICreditVault.Charge(owner, 3, 1000);
        vm.expectEmit();
        emit ICreditVault.Settled(operator, owner, a, 300, 300);
        vm.expectEmit();
        emit ICreditVault.ChargeSkipped(operator, b, ICreditVault.SkipReason.OVER_CAP);
        vm.expectEmit();
        emit ICreditVault.ChargeSkipped(operator, c, ICreditVault.SkipReason.NOTHING_DUE);
        vm.expectEmit();
        emit ICreditVault.ChargeSkipped(
            operator, vault.allocationId(owner, operator, 9), ICreditVault.SkipReason.UNKNOWN
        );
        vm.expectEmit();
        emit ICreditVault.Settled(operator, owner, c, 500, 1000);
        vm.expectEmit();
        emit ICreditVault.CreditDepleted(owner, operator, c);
        vm.expectEmit();
        emit ICreditVault.BatchSettled(operator, ROOT, 2, 800);
        vm.prank(operator);
        vault.settle(charges, ROOT);
        assertEq(available(operator), 1300);
    }

    /// Whatever is in a batch, it never reverts, and what is good in it is paid.
    function testFuzz_badEntriesBlockNothing(ICreditVault.Charge[] memory noise, uint96 good) public {
        good = uint96(bound(good, 1, 1000));
        grant(1, 1000, 0);
        vm.assume(noise.length < 50);
        ICreditVault.Charge[] memory charges = new ICreditVault.Charge[](noise.length + 1);
        for (uint256 i = 0; i < noise.length; ++i) {
            charges[i] = noise[i];
            if (noise[i].owner == owner && noise[i].id == 1) charges[i].cumulative = type(uint96).max;
        }
        charges[noise.length] = ICreditVault.Charge(owner, 1, good);
        vm.prank(operator);
        vault.settle(charges, ROOT);
        assertEq(available(operator), good);
    }

    /// In any order and as often as one likes, the same settlements pay the same.
    function testFuzz_replayedAndReordered(uint96[5] memory totals, uint256 seed) public {
        grant(1, 1000, 0);
        uint96 highest;
        for (uint256 i = 0; i < 5; ++i) {
            totals[i] = uint96(bound(totals[i], 0, 1000));
            if (totals[i] > highest) highest = totals[i];
        }
        for (uint256 i = 0; i < 20; ++i) {
            charge(1, totals[uint256(keccak256(abi.encode(seed, i))) % 5]);
        }
        for (uint256 i = 0; i < 5; ++i) {
            charge(1, totals[i]);
        }
        assertEq(available(operator), highest);
    }

    function testFuzz_onlyItsOperatorCharges(address who, uint96 total) public {
        vm.assume(who != operator && who != owner);
        bytes32 allocation = grant(1, 1000, 0);
        vm.prank(who);
        vault.settle(one(owner, 1, uint96(bound(total, 1, 1000))), ROOT);
        assertEq(available(who), 0);
        assertEq(taken(allocation), 0);
    }

    function testFuzz_chargesEndWithTheWindow(uint40 lasts, uint40 late) public {
        lasts = uint40(bound(lasts, 1, 3650 days));
        late = uint40(bound(late, 0, 30 days));
        bytes32 allocation = grant(ICreditVault.Allocation(owner, operator, 1, 1000, 0, NOW, NOW + lasts));
        vm.warp(NOW + lasts + late);
        charge(1, 400);
        assertEq(taken(allocation), late <= 3 days ? 400 : 0);
        vault.release(list(allocation));
        assertEq(available(owner), late <= 3 days ? AMPLE - 1000 : AMPLE);
    }

    function testFuzz_settleStreams(uint96 cap, uint96 rate, uint40 start, uint40[4] memory waits) public {
        cap = uint96(bound(cap, 1, AMPLE));
        rate = uint96(bound(rate, 0, cap));
        start = uint40(bound(start, NOW - 1 days, NOW + 10 days));
        ICreditVault.Allocation memory a =
            ICreditVault.Allocation(owner, operator, 1, cap, rate, start, NOW + 30 days);
        bytes32 allocation = grant(a);
        for (uint256 i = 0; i < 4; ++i) {
            skip(bound(waits[i], 0, 12 days));
            uint256 expected = _streamed(a);
            assertEq(vault.allocationOf(allocation).streamDue, expected - taken(allocation));
            vm.prank(stranger);
            vault.settleStreams(list(allocation));
            assertEq(taken(allocation), expected);
            assertEq(available(operator), expected);
            assertEq(vault.allocationOf(allocation).streamDue, 0);
        }
    }

    /// Stream and meter together never take more than the cap, in whichever order they are settled.
    function testFuzz_streamAndMeterShareTheCap(uint96 cap, uint96 rate, uint96 metered, bool streamFirst)
        public
    {
        cap = uint96(bound(cap, 1, AMPLE));
        rate = uint96(bound(rate, 0, cap));
        metered = uint96(bound(metered, 0, cap));
        bytes32 allocation = grant(1, cap, rate);
        skip(31 days);
        if (streamFirst) vault.settleStreams(list(allocation));
        uint256 streamed = taken(allocation);
        charge(1, metered);
        if (streamFirst) {
            assertEq(taken(allocation), streamed + metered > cap ? streamed : streamed + metered);
        }
        vault.settleStreams(list(allocation));
        assertLe(taken(allocation), cap);
        if (!streamFirst) {
            uint256 earned = uint256(rate) * 30 days;
            assertEq(taken(allocation), earned + metered > cap ? cap : earned + metered);
        }
        assertEq(available(operator), taken(allocation));
        assertEq(vault.accountOf(owner).balance, AMPLE - taken(allocation));
    }

    function test_theStreamDepletes() public {
        bytes32 allocation = grant(1, 1000, 1);
        skip(1000);
        vm.expectEmit();
        emit ICreditVault.StreamSettled(operator, owner, allocation, 1000, 1000);
        vm.expectEmit();
        emit ICreditVault.CreditDepleted(owner, operator, allocation);
        vault.settleStreams(list(allocation));
        vm.recordLogs();
        skip(1000);
        vault.settleStreams(list(allocation, bytes32("unknown")));
        assertEq(vm.getRecordedLogs().length, 0);
    }

    function testFuzz_release(uint96 cap, uint96 rate, uint96 metered, address who) public {
        cap = uint96(bound(cap, 1, AMPLE));
        rate = uint96(bound(rate, 0, cap));
        metered = uint96(bound(metered, 0, cap));
        bytes32 allocation = grant(1, cap, rate);
        charge(1, metered);
        vm.warp(NOW + 33 days);
        vm.prank(who);
        vault.release(list(allocation));
        assertEq(uint8(vault.allocationOf(allocation).status), uint8(ICreditVault.Status.OPEN));
        skip(1);
        uint256 earned = uint256(rate) * 30 days;
        uint256 expected = earned + metered > cap ? cap : earned + metered;
        vm.expectEmit();
        emit ICreditVault.Released(owner, operator, allocation, cap - expected);
        vm.prank(who);
        // Twice in one call is once.
        vault.release(list(allocation, allocation));
        assertEq(available(owner), AMPLE - expected);
        assertEq(available(operator), expected);
        assertEq(vault.accountOf(owner).reserved, 0);
        assertEq(vault.allocationsOf(owner).length, 0);
        charge(1, cap);
        vault.settleStreams(list(allocation));
        vault.release(list(allocation));
        assertEq(available(operator), expected);
        assertEq(available(owner), AMPLE - expected);
    }

    function testFuzz_relinquish(uint96 cap, uint96 rate, uint32 wait) public {
        cap = uint96(bound(cap, 1, AMPLE));
        rate = uint96(bound(rate, 0, cap));
        bytes32 allocation = grant(1, cap, rate);
        skip(wait);
        vm.prank(rival);
        vault.relinquish(list(allocation));
        assertEq(available(owner), AMPLE - cap);
        uint256 due = vault.allocationOf(allocation).streamDue;
        vm.prank(operator);
        vault.relinquish(list(allocation, bytes32("unknown")));
        assertEq(available(owner), AMPLE - due);
        assertEq(available(operator), due);
    }

    function test_theIncomeOfAnOperatorIsABalanceLikeAnyOther() public {
        grant(1, 1000, 0);
        charge(1, 1000);
        vm.startPrank(operator);
        vault.requestWithdrawal(1000);
        skip(4 days);
        vault.withdraw(operator);
        assertEq(dollar.balanceOf(operator), 1000);
    }

    function test_anOperatorMayBeItsOwnOwner() public {
        vm.startPrank(owner);
        vault.allocate(owner, 1, 1000, 1, NOW, NOW + 1 days);
        vault.settle(one(owner, 1, 400), ROOT);
        skip(10 days);
        vault.release(vault.allocationsOf(owner));
        assertEq(vault.accountOf(owner).available, AMPLE);
    }

    function _streamed(ICreditVault.Allocation memory a) private view returns (uint256) {
        uint256 end = block.timestamp < a.expires ? block.timestamp : a.expires;
        if (end <= a.start) return 0;
        uint256 earned = (end - a.start) * a.rate;
        return earned < a.cap ? earned : a.cap;
    }
}
