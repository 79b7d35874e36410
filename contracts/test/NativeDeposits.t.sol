// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {CreditVault} from "../src/CreditVault.sol";
import {ICreditVault} from "../src/interfaces/ICreditVault.sol";
import {IPriceFeed} from "../src/interfaces/IPriceFeed.sol";
import {World} from "./World.sol";
import {HostileFeed, HostileReceiver} from "./mocks/Hostile.sol";

contract NativeDepositsTest is World {
    function setUp() public override {
        super.setUp();
        fund(desk, AMPLE);
        vm.prank(desk);
        vault.approve(address(vault), AMPLE);
        vm.deal(stranger, type(uint128).max);
    }

    function testFuzz_depositNative(uint256 value, uint256 price) public {
        price = bound(price, 1, 1e12);
        feed.set(int256(price), NOW);
        value = bound(value, 0, 1e24);
        uint256 expected = (value * price / 1e20) * 9900 / 10_000;
        assertEq(vault.quoteNative(value), expected);
        vm.startPrank(stranger);
        if (expected == 0) {
            vm.expectRevert(ICreditVault.ZeroAmount.selector);
            vault.depositNative{value: value}(stranger, 0);
            return;
        }
        if (expected > AMPLE) {
            reverts(ICreditVault.InsufficientAllowance.selector);
            vault.depositNative{value: value}(stranger, 0);
            return;
        }
        vm.expectRevert(abi.encodeWithSelector(ICreditVault.BelowBound.selector, expected, expected + 1));
        vault.depositNative{value: value}(stranger, expected + 1);
        vm.expectEmit();
        emit ICreditVault.Recharged(stranger, desk, expected);
        assertEq(vault.depositNative{value: value}(stranger, expected), expected);
        assertEq(available(stranger), expected);
        assertEq(available(desk), AMPLE - expected);
        assertEq(vault.totalCredits(), dollar.balanceOf(address(vault)));
        assertEq(address(vault).balance, value);
    }

    function test_credited() public {
        vm.startPrank(stranger);
        reverts(ICreditVault.BadRecipient.selector);
        vault.depositNative{value: 1 ether}(address(0), 0);
        reverts(ICreditVault.BadRecipient.selector);
        vault.depositNative{value: 1 ether}(address(vault), 0);
    }

    function test_oneHundredCoins() public view {
        // 100 coins at 0.50 dollars less one percent.
        assertEq(vault.quoteNative(100 ether), 49.5e6);
    }

    function test_theDeskSellsWhatItApproved() public {
        vm.prank(desk);
        vault.approve(address(vault), 1e6);
        vm.startPrank(stranger);
        reverts(ICreditVault.InsufficientAllowance.selector);
        vault.depositNative{value: 100 ether}(stranger, 0);
        vault.depositNative{value: 2 ether}(stranger, 0);
    }

    function testFuzz_stalePrices(uint256 age) public {
        age = bound(age, 0, NOW);
        feed.set(1e8, NOW - age);
        if (age > 1 hours) reverts(ICreditVault.PriceUnusable.selector);
        vault.quoteNative(1 ether);
    }

    function test_hostileFeeds() public {
        HostileFeed hostile = new HostileFeed();
        CreditVault.Settings memory s = settings();
        s.feed = hostile;
        vault = new CreditVault(s);
        hostile.set(0, NOW, false);
        reverts(ICreditVault.PriceUnusable.selector);
        vault.quoteNative(1 ether);
        hostile.set(-1, NOW, false);
        reverts(ICreditVault.PriceUnusable.selector);
        vault.quoteNative(1 ether);
        hostile.set(1e8, 0, false);
        reverts(ICreditVault.PriceUnusable.selector);
        vault.quoteNative(1 ether);
        hostile.set(1e8, NOW + 1, false);
        reverts(ICreditVault.PriceUnusable.selector);
        vault.quoteNative(1 ether);
        hostile.set(type(int256).max, NOW, false);
        vm.startPrank(stranger);
        reverts(ICreditVault.InsufficientAllowance.selector);
        vault.depositNative{value: 1 ether}(stranger, 0);
        hostile.set(1e8, NOW, true);
        vm.expectRevert("broken");
        vault.depositNative{value: 1 ether}(stranger, 0);
        // And all else goes on.
        vm.stopPrank();
        fund(stranger, 10);
    }

    function test_withoutAFeed() public {
        CreditVault.Settings memory s = settings();
        s.feed = IPriceFeed(address(0));
        vault = new CreditVault(s);
        vm.expectRevert(ICreditVault.NativeUnavailable.selector);
        vault.quoteNative(1 ether);
    }

    function test_settingsThatMakeNoSense() public {
        CreditVault.Settings memory s = settings();
        s.desk = address(0);
        vm.expectRevert(ICreditVault.ZeroAddress.selector);
        new CreditVault(s);
        s = settings();
        s.spread = 10_000;
        reverts(ICreditVault.BelowBound.selector);
        new CreditVault(s);
    }

    function testFuzz_claimNative(uint96 value) public {
        value = uint96(bound(value, 1e15, 1e20));
        vm.prank(stranger);
        vault.depositNative{value: value}(stranger, 0);
        vm.prank(desk);
        vault.claimNative(payable(rival));
        assertEq(rival.balance, value);
    }

    function test_onlyTheDeskClaims() public {
        vm.expectRevert(abi.encodeWithSelector(ICreditVault.NotDesk.selector, stranger));
        vm.prank(stranger);
        vault.claimNative(payable(stranger));
        vm.prank(desk);
        reverts(ICreditVault.BadRecipient.selector);
        vault.claimNative(payable(address(0)));
    }

    function test_aReceiverThatRefusesIsNotInTheWay() public {
        HostileReceiver receiver = new HostileReceiver();
        vm.prank(stranger);
        vault.depositNative{value: 1 ether}(stranger, 0);
        vm.startPrank(desk);
        reverts(ICreditVault.NativeNotTaken.selector);
        vault.claimNative(payable(address(receiver)));
        vm.stopPrank();
        vm.prank(stranger);
        vault.depositNative{value: 1 ether}(stranger, 0);
        vm.prank(desk);
        vault.claimNative(payable(desk));
        assertEq(desk.balance, 2 ether);
    }

    function test_aReceiverThatCallsBack() public {
        HostileReceiver receiver = new HostileReceiver();
        CreditVault.Settings memory s = settings();
        s.desk = address(receiver);
        vault = new CreditVault(s);
        fund(address(receiver), 100e6);
        receiver.run(address(vault), abi.encodeCall(vault.approve, (address(vault), 100e6)));
        vm.prank(stranger);
        vault.depositNative{value: 1 ether}(stranger, 0);
        bytes memory claim = abi.encodeCall(vault.claimNative, (payable(address(receiver))));
        receiver.set(true, address(vault), claim);
        assertTrue(receiver.run(address(vault), claim));
        assertFalse(receiver.succeeded());
        assertEq(address(receiver).balance, 1 ether);
    }
}
