// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Test} from "forge-std/Test.sol";

import {CreditVault} from "../../src/CreditVault.sol";
import {DevDollar} from "../../src/dev/DevDollar.sol";
import {DevFeed} from "../../src/dev/DevFeed.sol";
import {ICreditVault} from "../../src/interfaces/ICreditVault.sol";

/// @dev Calls the vault at random as owners, operators, strangers and the timelock do, and keeps books of its own:
/// what each should have, and what each allocation should have paid, from what was asked for alone.
contract VaultHandler is Test {
    struct Model {
        uint256 available;
        uint256 withdrawing;
        uint256 requestedAt;
    }

    struct Limit {
        address owner;
        address operator;
        uint256 id;
        uint256 cap;
        uint256 rate;
        uint256 start;
        uint256 expires;
        uint256 metered;
        uint256 streamed;
        bool open;
    }

    uint256 private constant WINDOW = 3 days;

    CreditVault public immutable vault;
    DevDollar public immutable dollar;
    DevFeed public immutable feed;
    address public immutable timelock;

    address[] public people; // the first three own sites, the next two operate, the last is the desk
    uint256[] private keys;
    mapping(address => Model) public model;
    mapping(bytes32 => Limit) public limits;
    bytes32[] public allocations;
    uint256 public donated;
    uint256 public settled; // charges that were paid: to see that the random calls reach something
    uint256 private nextId = 1;

    constructor(
        CreditVault vault_,
        DevDollar dollar_,
        DevFeed feed_,
        address timelock_,
        address desk,
        uint256 deskKey
    ) {
        (vault, dollar, feed, timelock) = (vault_, dollar_, feed_, timelock_);
        string[5] memory names = ["ann", "bob", "cem", "op1", "op2"];
        for (uint256 i = 0; i < 5; ++i) {
            (address who, uint256 key) = makeAddrAndKey(names[i]);
            people.push(who);
            keys.push(key);
            vm.deal(who, 1e30);
        }
        people.push(desk);
        keys.push(deskKey);
        vm.deal(desk, 1e30);
        vm.prank(desk);
        vault.approve(address(vault), type(uint256).max);
    }

    function deposit(uint256 from, uint256 to, uint256 amount) external whenOpen {
        (address payer, address owner) = (_person(from), _person(to));
        amount = bound(amount, 1, 1e12);
        dollar.mint(payer, amount);
        vm.startPrank(payer);
        dollar.approve(address(vault), amount);
        vault.depositFor(owner, amount);
        vm.stopPrank();
        model[owner].available += amount;
    }

    function depositNative(uint256 to, uint256 value, uint256 price) external whenOpen {
        address owner = _person(to);
        price = bound(price, 1e6, 1e10);
        value = bound(value, 1e13, 1e21);
        feed.set(int256(price), block.timestamp);
        uint256 credits = (value * price / 1e20) * 99 / 100;
        if (credits == 0 || credits > model[people[5]].available) return;
        vm.prank(owner);
        vault.depositNative{value: value}(owner, credits);
        model[people[5]].available -= credits;
        model[owner].available += credits;
    }

    function move(uint256 from, uint256 to, uint256 amount, bool byAllowance) external {
        (address payer, address payee) = (_person(from), _person(to));
        amount = bound(amount, 0, model[payer].available);
        vm.startPrank(payer);
        if (byAllowance) {
            address spender = people[3];
            vault.approve(spender, amount);
            vm.stopPrank();
            vm.prank(spender);
            vault.transferFrom(payer, payee, amount);
            // Nothing is left of the allowance, unless it is the desk's own.
            if (payer == people[5]) {
                vm.prank(payer);
                vault.approve(address(vault), type(uint256).max);
            }
        } else {
            vault.transfer(payee, amount);
            vm.stopPrank();
        }
        model[payer].available -= amount;
        model[payee].available += amount;
    }

    function requestWithdrawal(uint256 from, uint256 amount) external {
        address who = _person(from);
        if (model[who].available == 0) return;
        amount = bound(amount, 1, model[who].available);
        vm.prank(who);
        vault.requestWithdrawal(amount);
        model[who].available -= amount;
        model[who].withdrawing += amount;
        model[who].requestedAt = block.timestamp;
    }

    function cancelWithdrawal(uint256 from) external {
        address who = _person(from);
        if (model[who].withdrawing == 0) return;
        vm.prank(who);
        vault.cancelWithdrawal();
        model[who].available += model[who].withdrawing;
        model[who].withdrawing = 0;
    }

    function withdraw(uint256 from, address to) external {
        address who = _person(from);
        if (model[who].withdrawing == 0 || block.timestamp < model[who].requestedAt + 4 days) return;
        if (to == address(0) || to == address(vault)) to = who;
        uint256 before = dollar.balanceOf(to);
        vm.prank(who);
        vault.withdraw(to);
        assertEq(dollar.balanceOf(to) - before, model[who].withdrawing, "withdrawn");
        model[who].withdrawing = 0;
    }

    function allocate(
        uint256 from,
        uint256 to,
        uint256 cap,
        uint256 rate,
        uint256 start,
        uint256 lasts,
        bool sign
    ) external whenOpen {
        uint256 index = from % 3;
        Model storage m = model[people[index]];
        if (m.available == 0 || vault.allocationsOf(people[index]).length == 64) return;
        ICreditVault.Allocation memory a;
        (a.owner, a.operator, a.id) = (people[index], people[3 + to % 2], nextId++);
        a.cap = uint96(bound(cap, 1, m.available));
        a.rate = uint96(bound(rate, 0, a.cap / 1e5));
        a.start = uint40(bound(start, block.timestamp - 5 days, block.timestamp + 5 days));
        a.expires = uint40(block.timestamp + bound(lasts, 6 days, 40 days));
        if (sign) {
            (uint8 v, bytes32 r, bytes32 s) = vm.sign(keys[index], vault.allocationDigest(a));
            vault.allocateBySignature(a, abi.encodePacked(r, s, v));
        } else {
            vm.prank(a.owner);
            vault.allocate(a.operator, a.id, a.cap, a.rate, a.start, a.expires);
        }
        m.available -= a.cap;
        bytes32 allocation = vault.allocationId(a.owner, a.operator, a.id);
        allocations.push(allocation);
        limits[allocation] = Limit(a.owner, a.operator, a.id, a.cap, a.rate, a.start, a.expires, 0, 0, true);
    }

    function raise(uint256 which, uint256 more, uint256 longer) external whenOpen {
        (bytes32 allocation, Limit storage l) = _limit(which);
        if (allocation == 0 || !l.open || block.timestamp > l.expires) return;
        more = bound(more, 0, model[l.owner].available);
        longer = bound(longer, more == 0 ? 1 : 0, 10 days);
        vm.prank(l.owner);
        vault.raiseAllocation(l.operator, l.id, uint96(l.cap + more), uint40(l.expires + longer));
        model[l.owner].available -= more;
        l.cap += more;
        l.expires += longer;
    }

    function end(uint256 which) external {
        (bytes32 allocation, Limit storage l) = _limit(which);
        if (allocation == 0 || !l.open || block.timestamp + 1 days >= l.expires) return;
        vm.prank(l.owner);
        vault.endAllocation(l.operator, l.id);
        l.expires = block.timestamp + 1 days;
    }

    /// @dev Any totals for any allocations, also other operators', closed, unknown and repeated ones.
    function settle(uint256 by, uint256[8] calldata which, uint256[8] calldata totals, uint256 count)
        external
    {
        address operator = people[by % people.length];
        count = bound(count, 0, 8);
        if (allocations.length == 0) return;
        ICreditVault.Charge[] memory charges = new ICreditVault.Charge[](count);
        for (uint256 i = 0; i < count; ++i) {
            (, Limit storage l) = _limit(which[i]);
            uint96 total = uint96(bound(totals[i], 0, l.cap + l.cap / 8));
            charges[i] = ICreditVault.Charge(l.owner, totals[i] % 16 == 0 ? l.id + 1000 : l.id, total);
            if (totals[i] % 16 == 0 || l.operator != operator) continue;
            if (!l.open || block.timestamp > l.expires + WINDOW) continue;
            if (total <= l.metered || total - l.metered > l.cap - l.metered - l.streamed) continue;
            model[operator].available += total - l.metered;
            l.metered = total;
            ++settled;
        }
        vm.prank(operator);
        vault.settle(charges, keccak256(abi.encode(which, totals)));
    }

    function settleStreams(uint256[4] calldata which) external {
        bytes32[] memory ids = new bytes32[](4);
        for (uint256 i = 0; i < 4; ++i) {
            (ids[i],) = _limit(which[i]);
            _stream(ids[i]);
        }
        vault.settleStreams(ids);
    }

    function release(uint256[4] calldata which) external {
        bytes32[] memory ids = new bytes32[](4);
        for (uint256 i = 0; i < 4; ++i) {
            (ids[i],) = _limit(which[i]);
            if (limits[ids[i]].open && block.timestamp > limits[ids[i]].expires + WINDOW) _close(ids[i]);
        }
        vault.release(ids);
    }

    function relinquish(uint256 by, uint256[2] calldata which) external {
        // Rarely: or nothing would be left for the others.
        if (which[0] % 4 != 0) return;
        address operator = people[3 + by % 2];
        bytes32[] memory ids = new bytes32[](2);
        for (uint256 i = 0; i < 2; ++i) {
            (ids[i],) = _limit(which[i]);
            if (limits[ids[i]].open && limits[ids[i]].operator == operator) _close(ids[i]);
        }
        vm.prank(operator);
        vault.relinquish(ids);
    }

    function donate(uint256 amount, bool sweep) external {
        amount = bound(amount, 0, 1e9);
        dollar.mint(address(vault), amount);
        donated += amount;
        if (!sweep) return;
        vm.prank(timelock);
        vault.sweep(dollar, address(0xdead));
        donated = 0;
    }

    function pause(bool off) external {
        vm.startPrank(timelock);
        if (off) {
            vault.unpause();
        } else {
            try vault.pause() {} catch {}
        }
        vm.stopPrank();
    }

    /// @dev A stranger, or a person in another's name, tries to get at what is not its own.
    function steal(uint256 by, uint256 from, uint256 amount, uint256 which) external {
        address thief = by % 2 == 0 ? address(uint160(uint256(keccak256(abi.encode(by))))) : people[4];
        address victim = _person(from);
        if (victim == thief) return;
        amount = bound(amount, 1, type(uint96).max);
        (, Limit storage l) = _limit(which);
        vm.startPrank(thief);
        (bool moved,) = address(vault).call(abi.encodeCall(vault.transferFrom, (victim, thief, amount)));
        (bool claimed,) = address(vault).call(abi.encodeCall(vault.claimNative, (payable(thief))));
        (bool swept,) = address(vault).call(abi.encodeCall(vault.sweep, (dollar, thief)));
        (bool paused,) = address(vault).call(abi.encodeCall(vault.pause, ()));
        bool ended;
        if (l.owner != thief) {
            (ended,) = address(vault).call(abi.encodeCall(vault.endAllocation, (l.operator, l.id)));
        }
        vm.stopPrank();
        assertFalse(moved || claimed || swept || paused || ended, "stolen");
    }

    function warp(uint256 by) external {
        skip(bound(by, 1, 4 days));
    }

    /// @dev To the end: everything is closed and withdrawn by those whose it is, and by nobody's leave.
    function drain() external {
        skip(3650 days);
        vault.release(allocations);
        for (uint256 i = 0; i < allocations.length; ++i) {
            if (limits[allocations[i]].open) _close(allocations[i]);
        }
        for (uint256 i = 0; i < people.length; ++i) {
            vm.startPrank(people[i]);
            uint256 rest = vault.accountOf(people[i]).available;
            if (rest != 0) vault.requestWithdrawal(rest);
            vm.stopPrank();
        }
        skip(4 days);
        for (uint256 i = 0; i < people.length; ++i) {
            ICreditVault.AccountView memory account = vault.accountOf(people[i]);
            assertEq(account.balance, model[people[i]].available + model[people[i]].withdrawing, "drained");
            if (account.balance == 0) continue;
            vm.prank(people[i]);
            vault.withdraw(people[i]);
        }
        assertEq(vault.totalCredits(), 0, "locked");
        assertEq(dollar.balanceOf(address(vault)), donated, "left");
        vm.prank(people[5]);
        vault.claimNative(payable(people[4]));
        assertEq(address(vault).balance, 0, "coins left");
    }

    function peopleCount() external view returns (uint256) {
        return people.length;
    }

    function allocationCount() external view returns (uint256) {
        return allocations.length;
    }

    modifier whenOpen() {
        if (block.timestamp >= vault.pausedUntil()) _;
    }

    function _person(uint256 seed) private view returns (address) {
        return people[seed % people.length];
    }

    function _limit(uint256 seed) private view returns (bytes32 allocation, Limit storage) {
        if (allocations.length != 0) allocation = allocations[seed % allocations.length];
        return (allocation, limits[allocation]);
    }

    function _stream(bytes32 allocation) private {
        Limit storage l = limits[allocation];
        uint256 until = block.timestamp < l.expires ? block.timestamp : l.expires;
        if (!l.open || until <= l.start) return;
        uint256 total = l.rate * (until - l.start);
        uint256 most = l.cap - l.metered;
        if (total > most) total = most;
        if (total <= l.streamed) return;
        model[l.operator].available += total - l.streamed;
        l.streamed = total;
    }

    function _close(bytes32 allocation) private {
        Limit storage l = limits[allocation];
        _stream(allocation);
        l.open = false;
        model[l.owner].available += l.cap - l.metered - l.streamed;
    }
}
