// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Test} from "forge-std/Test.sol";

import {CreditVault} from "../src/CreditVault.sol";
import {DevDollar} from "../src/dev/DevDollar.sol";
import {DevFeed} from "../src/dev/DevFeed.sol";
import {ICreditVault} from "../src/interfaces/ICreditVault.sol";
import {IPermit2} from "../src/interfaces/IPermit2.sol";
import {Permit2} from "./mocks/Permit2.sol";

/// @dev A vault with all that belongs to it, three people, and shorthands for what tests do over and over.
abstract contract World is Test {
    uint256 internal constant AMPLE = 1_000_000e6;
    uint40 internal constant NOW = 1_800_000_000;
    bytes32 internal constant ROOT = keccak256("root");

    DevDollar internal dollar;
    DevFeed internal feed;
    Permit2 internal permit2;
    CreditVault internal vault;

    address internal timelock = makeAddr("timelock");
    address internal desk = makeAddr("desk");
    address internal operator = makeAddr("operator");
    address internal rival = makeAddr("rival");
    address internal stranger = makeAddr("stranger");
    address internal owner;
    uint256 internal ownerKey;

    function setUp() public virtual {
        vm.warp(NOW);
        (owner, ownerKey) = makeAddrAndKey("owner");
        dollar = new DevDollar();
        feed = new DevFeed(0.5e8);
        permit2 = new Permit2();
        vault = new CreditVault(settings());
        fund(owner, AMPLE);
    }

    function settings() internal view returns (CreditVault.Settings memory) {
        return CreditVault.Settings(dollar, IPermit2(address(permit2)), feed, 1 hours, desk, 100, timelock);
    }

    function fund(address who, uint256 amount) internal {
        dollar.mint(who, amount);
        vm.startPrank(who);
        dollar.approve(address(vault), amount);
        vault.deposit(amount);
        vm.stopPrank();
    }

    /// @dev An allocation of the owner for thirty days from now.
    function terms(uint256 id, uint96 cap, uint96 rate)
        internal
        view
        returns (ICreditVault.Allocation memory)
    {
        uint40 start = uint40(block.timestamp);
        return ICreditVault.Allocation(owner, operator, id, cap, rate, start, start + 30 days);
    }

    function grant(ICreditVault.Allocation memory a) internal returns (bytes32) {
        vm.prank(a.owner);
        vault.allocate(a.operator, a.id, a.cap, a.rate, a.start, a.expires);
        return vault.allocationId(a.owner, a.operator, a.id);
    }

    function grant(uint256 id, uint96 cap, uint96 rate) internal returns (bytes32) {
        return grant(terms(id, cap, rate));
    }

    function signed(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    function charge(uint256 id, uint96 cumulative) internal {
        vm.prank(operator);
        vault.settle(one(owner, id, cumulative), ROOT);
    }

    function one(address who, uint256 id, uint96 cumulative)
        internal
        pure
        returns (ICreditVault.Charge[] memory charges)
    {
        charges = new ICreditVault.Charge[](1);
        charges[0] = ICreditVault.Charge(who, id, cumulative);
    }

    function list(bytes32 a) internal pure returns (bytes32[] memory ids) {
        ids = new bytes32[](1);
        ids[0] = a;
    }

    function list(bytes32 a, bytes32 b) internal pure returns (bytes32[] memory ids) {
        ids = new bytes32[](2);
        (ids[0], ids[1]) = (a, b);
    }

    function available(address who) internal view returns (uint256) {
        return vault.accountOf(who).available;
    }

    function taken(bytes32 allocation) internal view returns (uint256) {
        ICreditVault.AllocationView memory a = vault.allocationOf(allocation);
        return uint256(a.metered) + a.streamed;
    }

    function reverts(bytes4 selector) internal {
        vm.expectPartialRevert(selector);
    }
}
