// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";

import {CreditVault} from "../src/CreditVault.sol";
import {ICreditVault} from "../src/interfaces/ICreditVault.sol";
import {World} from "./World.sol";
import {HostileToken} from "./mocks/Hostile.sol";

contract AccountsTest is World {
    function testFuzz_transfer(address to, uint256 amount) public {
        vm.assume(to != address(0) && to != address(vault));
        uint256 before = available(to);
        vm.prank(owner);
        if (amount > AMPLE) {
            vm.expectRevert(abi.encodeWithSelector(ICreditVault.InsufficientCredits.selector, AMPLE, amount));
            vault.transfer(to, amount);
            return;
        }
        vault.transfer(to, amount);
        if (to == owner) return assertEq(available(owner), AMPLE);
        assertEq(available(to), before + amount);
        assertEq(available(owner), AMPLE - amount);
    }

    function testFuzz_transferFrom(uint256 allowed, uint256 amount) public {
        amount = bound(amount, 0, AMPLE);
        vm.prank(owner);
        vault.approve(operator, allowed);
        vm.startPrank(operator);
        if (amount > allowed) {
            vm.expectRevert(
                abi.encodeWithSelector(ICreditVault.InsufficientAllowance.selector, allowed, amount)
            );
            vault.transferFrom(owner, rival, amount);
            return;
        }
        vault.transferFrom(owner, rival, amount);
        assertEq(available(rival), amount);
        assertEq(vault.allowance(owner, operator), allowed == type(uint256).max ? allowed : allowed - amount);
    }

    function testFuzz_nobodyElseMovesCredits(address who, uint256 amount) public {
        vm.assume(who != owner);
        amount = bound(amount, 1, AMPLE);
        vm.startPrank(who);
        reverts(ICreditVault.InsufficientAllowance.selector);
        vault.transferFrom(owner, who, amount);
        reverts(ICreditVault.InsufficientCredits.selector);
        vault.transfer(owner, amount);
        reverts(ICreditVault.InsufficientCredits.selector);
        vault.requestWithdrawal(amount);
        reverts(ICreditVault.NothingRequested.selector);
        vault.withdraw(stranger);
        reverts(ICreditVault.NothingRequested.selector);
        vault.cancelWithdrawal();
        assertEq(available(owner), AMPLE);
    }

    function test_zeroAddresses() public {
        vm.startPrank(owner);
        reverts(ICreditVault.BadRecipient.selector);
        vault.transfer(address(0), 1);
        reverts(ICreditVault.BadRecipient.selector);
        vault.transfer(address(vault), 1);
        vm.expectRevert(ICreditVault.ZeroAddress.selector);
        vault.approve(address(0), 1);
        vault.requestWithdrawal(1);
        skip(4 days);
        reverts(ICreditVault.BadRecipient.selector);
        vault.withdraw(address(0));
        reverts(ICreditVault.BadRecipient.selector);
        vault.withdraw(address(vault));
    }

    function testFuzz_withdraw(uint64 first, uint64 second, uint32 wait) public {
        first = uint64(bound(first, 1, AMPLE / 2));
        second = uint64(bound(second, 1, AMPLE / 2));
        wait = uint32(bound(wait, 0, 4 days));
        vm.startPrank(owner);
        vault.requestWithdrawal(first);
        skip(wait);
        vault.requestWithdrawal(second);
        ICreditVault.AccountView memory account = vault.accountOf(owner);
        assertEq(account.withdrawing, uint256(first) + second);
        assertEq(account.reserved, account.withdrawing);
        assertEq(account.balance, AMPLE);
        assertEq(account.withdrawableAt, block.timestamp + 4 days);
        skip(4 days - 1);
        vm.expectRevert(abi.encodeWithSelector(ICreditVault.TooEarly.selector, account.withdrawableAt));
        vault.withdraw(rival);
        skip(1);
        vm.expectEmit();
        emit ICreditVault.Withdrawn(owner, rival, account.withdrawing);
        vault.withdraw(rival);
        assertEq(dollar.balanceOf(rival), account.withdrawing);
        assertEq(vault.totalCredits(), AMPLE - account.withdrawing);
        assertEq(vault.accountOf(owner).balance, AMPLE - account.withdrawing);
        vm.expectRevert(ICreditVault.NothingRequested.selector);
        vault.withdraw(rival);
    }

    function testFuzz_requestWithdrawal(uint256 amount) public {
        vm.startPrank(owner);
        if (amount == 0) vm.expectRevert(ICreditVault.ZeroAmount.selector);
        else if (amount > AMPLE) reverts(ICreditVault.InsufficientCredits.selector);
        vault.requestWithdrawal(amount);
    }

    function testFuzz_cancelWithdrawal(uint64 amount) public {
        amount = uint64(bound(amount, 1, AMPLE));
        vm.startPrank(owner);
        vault.requestWithdrawal(amount);
        vault.cancelWithdrawal();
        ICreditVault.AccountView memory account = vault.accountOf(owner);
        assertEq(account.available, AMPLE);
        assertEq(account.reserved, 0);
        assertEq(account.withdrawableAt, 0);
    }

    function test_whatIsReservedIsNotWithdrawn() public {
        grant(1, uint96(AMPLE - 10), 0);
        vm.startPrank(owner);
        vm.expectRevert(abi.encodeWithSelector(ICreditVault.InsufficientCredits.selector, 10, 11));
        vault.requestWithdrawal(11);
        vm.expectRevert(abi.encodeWithSelector(ICreditVault.InsufficientCredits.selector, 10, 11));
        vault.transfer(stranger, 11);
        vault.requestWithdrawal(10);
        vm.expectRevert(abi.encodeWithSelector(ICreditVault.InsufficientCredits.selector, 0, 1));
        vault.allocate(operator, 2, 1, 0, NOW, NOW + 1);
        assertEq(vault.accountOf(owner).reserved, AMPLE);
    }

    function test_oneWeiFromOthersDelaysNobody() public {
        vm.prank(owner);
        vault.requestWithdrawal(AMPLE);
        skip(4 days);
        dollar.mint(stranger, 1);
        vm.startPrank(stranger);
        dollar.approve(address(vault), 1);
        vault.depositFor(owner, 1);
        vm.stopPrank();
        vm.prank(owner);
        vault.withdraw(owner);
        assertEq(dollar.balanceOf(owner), AMPLE);
        assertEq(available(owner), 1);
    }

    function test_aTokenThatRefusesLosesNoCredits() public {
        HostileToken hostile = _hostileVault();
        vm.startPrank(stranger);
        vault.requestWithdrawal(1000);
        skip(4 days);
        hostile.setRefuses(true);
        vm.expectRevert("refused");
        vault.withdraw(stranger);
        assertEq(vault.accountOf(stranger).withdrawing, 1000);
        hostile.setRefuses(false);
        vault.withdraw(stranger);
        assertEq(hostile.balanceOf(stranger), 1000);
    }

    function test_withdrawingTwiceAtOnce() public {
        HostileToken hostile = _hostileVault();
        vm.startPrank(stranger);
        vault.requestWithdrawal(600);
        skip(4 days);
        hostile.setCall(address(vault), abi.encodeCall(vault.withdraw, (stranger)));
        vault.withdraw(stranger);
        assertFalse(hostile.succeeded());
        assertEq(hostile.balanceOf(stranger), 600);
        assertEq(vault.totalCredits(), 400);
    }

    function _hostileVault() private returns (HostileToken hostile) {
        hostile = new HostileToken();
        CreditVault.Settings memory s = settings();
        s.token = IERC20Metadata(address(hostile));
        vault = new CreditVault(s);
        hostile.mint(stranger, 1000);
        vm.startPrank(stranger);
        hostile.approve(address(vault), 1000);
        vault.deposit(1000);
        vm.stopPrank();
    }
}
