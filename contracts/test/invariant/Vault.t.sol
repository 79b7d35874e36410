// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ICreditVault} from "../../src/interfaces/ICreditVault.sol";
import {World} from "../World.sol";
import {VaultHandler} from "./VaultHandler.sol";

contract VaultInvariants is World {
    VaultHandler private handler;

    function setUp() public override {
        super.setUp();
        uint256 deskKey;
        (desk, deskKey) = makeAddrAndKey("desk");
        vm.startPrank(owner);
        vault.requestWithdrawal(AMPLE);
        skip(4 days);
        vault.withdraw(owner);
        vm.stopPrank();
        handler = new VaultHandler(vault, dollar, feed, timelock, desk, deskKey);
        bytes4[] memory selectors = new bytes4[](17);
        selectors[0] = handler.deposit.selector;
        selectors[1] = handler.depositNative.selector;
        selectors[2] = handler.move.selector;
        selectors[3] = handler.requestWithdrawal.selector;
        selectors[4] = handler.cancelWithdrawal.selector;
        selectors[5] = handler.withdraw.selector;
        selectors[6] = handler.allocate.selector;
        selectors[7] = handler.raise.selector;
        selectors[8] = handler.end.selector;
        selectors[9] = handler.settle.selector;
        selectors[10] = handler.settleStreams.selector;
        selectors[11] = handler.release.selector;
        selectors[12] = handler.relinquish.selector;
        selectors[13] = handler.donate.selector;
        selectors[14] = handler.steal.selector;
        selectors[15] = handler.warp.selector;
        selectors[16] = handler.pause.selector;
        targetContract(address(handler));
        targetSelector(FuzzSelector(address(handler), selectors));
    }

    function invariant_creditsAreConserved() public view {
        uint256 sum;
        for (uint256 i = 0; i < handler.peopleCount(); ++i) {
            sum += vault.accountOf(handler.people(i)).balance;
        }
        assertEq(sum, vault.totalCredits(), "balances");
        assertEq(sum + handler.donated(), dollar.balanceOf(address(vault)), "tokens");
    }

    function invariant_nobodyTakesMoreThanItsAllocation() public view {
        for (uint256 i = 0; i < handler.allocationCount(); ++i) {
            bytes32 allocation = handler.allocations(i);
            ICreditVault.AllocationView memory a = vault.allocationOf(allocation);
            (,,, uint256 cap,,, uint256 expires, uint256 metered, uint256 streamed, bool open) =
                handler.limits(allocation);
            assertLe(uint256(a.metered) + a.streamed + a.streamDue, a.cap, "cap");
            assertEq(a.cap, cap);
            assertEq(a.expires, expires);
            assertEq(a.metered, metered, "metered");
            assertEq(a.streamed, streamed, "streamed");
            assertEq(a.status == ICreditVault.Status.OPEN, open);
        }
    }

    function invariant_reservationsNeverExceedBalances() public view {
        uint256[] memory reserved = new uint256[](handler.peopleCount());
        for (uint256 i = 0; i < handler.peopleCount(); ++i) {
            ICreditVault.AccountView memory account = vault.accountOf(handler.people(i));
            assertLe(account.reserved, account.balance);
            assertEq(account.available, account.balance - account.reserved);
            reserved[i] = account.reserved - account.withdrawing;
        }
        for (uint256 i = 0; i < handler.allocationCount(); ++i) {
            (address who,,, uint256 cap,,,, uint256 metered, uint256 streamed, bool open) =
                handler.limits(handler.allocations(i));
            if (!open) continue;
            for (uint256 j = 0; j < reserved.length; ++j) {
                if (handler.people(j) == who) reserved[j] -= cap - metered - streamed;
            }
        }
        for (uint256 i = 0; i < reserved.length; ++i) {
            assertEq(reserved[i], 0, "reserved is what open allocations may still take");
        }
    }

    /// Each has to the last credit what its own calls, and what it had allowed, make it have.
    function invariant_nobodyButTheOwnerSpends() public view {
        for (uint256 i = 0; i < handler.peopleCount(); ++i) {
            ICreditVault.AccountView memory account = vault.accountOf(handler.people(i));
            (uint256 expected, uint256 withdrawing,) = handler.model(handler.people(i));
            assertEq(account.available, expected);
            assertEq(account.withdrawing, withdrawing);
        }
    }

    /// Nothing is locked: after each run everybody leaves with all that is theirs.
    function afterInvariant() public {
        handler.drain();
    }
}
