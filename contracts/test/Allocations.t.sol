// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ICreditVault} from "../src/interfaces/ICreditVault.sol";
import {CreditVault} from "../src/CreditVault.sol";
import {World} from "./World.sol";
import {HostileWallet} from "./mocks/Hostile.sol";
import {Wallet} from "./mocks/Wallet.sol";

contract AllocationsTest is World {
    uint256 private constant HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;
    uint256 private constant ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    function testFuzz_allocate(address to, uint256 id, uint96 cap, uint96 rate, uint40 start, uint40 expires)
        public
    {
        ICreditVault.Allocation memory a =
            ICreditVault.Allocation(owner, to, id, uint96(bound(cap, 0, 2 * AMPLE)), rate, start, expires);
        vm.startPrank(owner);
        if (
            to == address(0) || to == address(vault) || a.cap == 0 || rate > a.cap || expires <= start
                || expires <= NOW
        ) {
            vm.expectRevert(ICreditVault.InvalidAllocation.selector);
            vault.allocate(to, id, a.cap, rate, start, expires);
            return;
        }
        if (a.cap > AMPLE) {
            vm.expectRevert(abi.encodeWithSelector(ICreditVault.InsufficientCredits.selector, AMPLE, a.cap));
            vault.allocate(to, id, a.cap, rate, start, expires);
            return;
        }
        bytes32 allocation = keccak256(abi.encode(owner, to, id));
        vm.expectEmit();
        emit ICreditVault.LimitChanged(owner, to, allocation, a.cap, rate, start, expires, id);
        vault.allocate(to, id, a.cap, rate, start, expires);
        _check(a, allocation);
        vm.expectRevert(abi.encodeWithSelector(ICreditVault.AllocationExists.selector, allocation));
        vault.allocate(to, id, 1, 0, start, expires);
    }

    function testFuzz_allocateSensibly(uint256 id, uint96 cap, uint96 rate, uint40 lasts) public {
        cap = uint96(bound(cap, 1, AMPLE));
        rate = uint96(bound(rate, 0, cap));
        lasts = uint40(bound(lasts, 1, type(uint40).max - NOW));
        ICreditVault.Allocation memory a =
            ICreditVault.Allocation(owner, operator, id, cap, rate, NOW, NOW + lasts);
        _check(a, grant(a));
    }

    function testFuzz_allocateBySignature(uint256 key, uint256 id, uint96 cap, uint96 rate, address sender)
        public
    {
        key = boundPrivateKey(key);
        address who = vm.addr(key);
        vm.assume(who.code.length == 0 && who != owner && sender != address(0));
        fund(who, AMPLE);
        ICreditVault.Allocation memory a = terms(id, uint96(bound(cap, 1, AMPLE)), 0);
        a.owner = who;
        a.rate = uint96(bound(rate, 0, a.cap));
        bytes memory signature = signed(key, vault.allocationDigest(a));
        bytes32 allocation = vault.allocationId(who, operator, id);
        vm.startPrank(sender);
        vault.allocateBySignature(a, signature);
        _check(a, allocation);
        vm.expectRevert(abi.encodeWithSelector(ICreditVault.AllocationExists.selector, allocation));
        vault.allocateBySignature(a, signature);
    }

    function test_theDigestIsWhatEip712Says() public view {
        ICreditVault.Allocation memory a = terms(7, 100, 1);
        bytes32 domain = keccak256(
            abi.encode(
                keccak256(
                    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
                ),
                keccak256("DecentraSpace CreditVault"),
                keccak256("1"),
                block.chainid,
                address(vault)
            )
        );
        bytes32 typeHash = keccak256(
            "Allocation(address owner,address operator,uint256 id,uint96 cap,uint96 rate,uint40 start,uint40 expires)"
        );
        bytes32 structHash =
            keccak256(abi.encode(typeHash, a.owner, a.operator, a.id, a.cap, a.rate, a.start, a.expires));
        assertEq(vault.allocationDigest(a), keccak256(abi.encodePacked("\x19\x01", domain, structHash)));
    }

    function testFuzz_everythingIsSigned(uint8 field) public {
        ICreditVault.Allocation memory a = terms(7, 100, 1);
        bytes memory signature = signed(ownerKey, vault.allocationDigest(a));
        field = uint8(bound(field, 0, 6));
        if (field == 0) a.owner = stranger;
        if (field == 1) a.operator = rival;
        if (field == 2) ++a.id;
        if (field == 3) ++a.cap;
        if (field == 4) ++a.rate;
        if (field == 5) ++a.start;
        if (field == 6) ++a.expires;
        vm.expectRevert(ICreditVault.InvalidSignature.selector);
        vault.allocateBySignature(a, signature);
    }

    function testFuzz_otherChainsAndContracts(uint64 chain) public {
        vm.assume(chain != block.chainid && chain != 0);
        ICreditVault.Allocation memory a = terms(7, 100, 1);
        bytes memory signature = signed(ownerKey, vault.allocationDigest(a));
        CreditVault twin = new CreditVault(settings());
        vm.expectRevert(ICreditVault.InvalidSignature.selector);
        twin.allocateBySignature(a, signature);
        uint256 here = block.chainid;
        vm.chainId(chain);
        vm.expectRevert(ICreditVault.InvalidSignature.selector);
        vault.allocateBySignature(a, signature);
        vm.chainId(here);
        vault.allocateBySignature(a, signature);
    }

    function test_signaturesHaveOneForm() public {
        ICreditVault.Allocation memory a = terms(7, 100, 1);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(ownerKey, vault.allocationDigest(a));
        assertLe(uint256(s), HALF_ORDER);
        bytes memory twin = abi.encodePacked(r, bytes32(ORDER - uint256(s)), v == 27 ? uint8(28) : uint8(27));
        vm.expectRevert(ICreditVault.InvalidSignature.selector);
        vault.allocateBySignature(a, twin);
        vm.expectRevert(ICreditVault.InvalidSignature.selector);
        vault.allocateBySignature(a, abi.encodePacked(r, s));
        vm.expectRevert(ICreditVault.InvalidSignature.selector);
        vault.allocateBySignature(a, "");
        a.owner = address(0);
        vm.expectRevert(ICreditVault.InvalidSignature.selector);
        vault.allocateBySignature(a, new bytes(65));
    }

    function test_contractAccountsSign() public {
        Wallet wallet = new Wallet(owner);
        fund(address(wallet), AMPLE);
        ICreditVault.Allocation memory a = terms(7, 100, 1);
        a.owner = address(wallet);
        bytes memory signature = signed(ownerKey, vault.allocationDigest(a));
        wallet.setKey(stranger);
        vm.expectRevert(ICreditVault.InvalidSignature.selector);
        vault.allocateBySignature(a, signature);
        wallet.setKey(owner);
        vault.allocateBySignature(a, signature);
        _check(a, vault.allocationId(address(wallet), operator, 7));
    }

    function test_accountsWithBothKeyAndCodeSign() public {
        // As after EIP-7702.
        vm.etch(owner, address(new HostileWallet()).code);
        ICreditVault.Allocation memory a = terms(7, 100, 1);
        vault.allocateBySignature(a, signed(ownerKey, vault.allocationDigest(a)));
        _check(a, vault.allocationId(owner, operator, 7));
    }

    function test_hostileContractAccounts() public {
        HostileWallet wallet = new HostileWallet();
        fund(address(wallet), AMPLE);
        ICreditVault.Allocation memory a = terms(7, 100, 1);
        a.owner = address(wallet);
        for (uint256 mode = 0; mode < 4; ++mode) {
            wallet.set(mode);
            vm.expectRevert(ICreditVault.InvalidSignature.selector);
            vault.allocateBySignature(a, "");
        }
    }

    function testFuzz_raiseAllocation(uint96 cap, uint40 expires) public {
        bytes32 allocation = grant(1, 1000, 1);
        cap = uint96(bound(cap, 0, 2 * AMPLE));
        uint40 before = NOW + 30 days;
        vm.startPrank(owner);
        if (cap < 1000 || expires < before || (cap == 1000 && expires == before)) {
            vm.expectRevert(ICreditVault.NotRaised.selector);
            vault.raiseAllocation(operator, 1, cap, expires);
            return;
        }
        if (cap > AMPLE) {
            reverts(ICreditVault.InsufficientCredits.selector);
            vault.raiseAllocation(operator, 1, cap, expires);
            return;
        }
        vm.expectEmit();
        emit ICreditVault.LimitChanged(owner, operator, allocation, cap, 1, NOW, expires, 1);
        vault.raiseAllocation(operator, 1, cap, expires);
        _check(ICreditVault.Allocation(owner, operator, 1, cap, 1, NOW, expires), allocation);
    }

    function test_whatHasExpiredIsNotRaised() public {
        bytes32 allocation = grant(1, 1000, 1);
        skip(30 days + 1);
        vm.startPrank(owner);
        vm.expectRevert(abi.encodeWithSelector(ICreditVault.AllocationExpired.selector, allocation));
        vault.raiseAllocation(operator, 1, 2000, type(uint40).max);
        reverts(ICreditVault.AllocationNotOpen.selector);
        vault.raiseAllocation(operator, 2, 2000, type(uint40).max);
    }

    function testFuzz_endAllocation(uint40 lasts, uint40 after_) public {
        lasts = uint40(bound(lasts, 1, 3650 days));
        after_ = uint40(bound(after_, 0, 3650 days));
        bytes32 allocation = grant(ICreditVault.Allocation(owner, operator, 1, 1000, 0, NOW, NOW + lasts));
        skip(after_);
        vm.startPrank(owner);
        if (after_ + 1 days >= lasts) {
            vm.expectRevert(abi.encodeWithSelector(ICreditVault.AllocationExpired.selector, allocation));
            vault.endAllocation(operator, 1);
            return;
        }
        vault.endAllocation(operator, 1);
        assertEq(vault.allocationOf(allocation).expires, NOW + after_ + 1 days);
        // What was promised is still there for the operator, until the window is over.
        skip(4 days);
        vault.release(list(allocation));
        assertEq(available(owner), AMPLE - 1000);
        vm.stopPrank();
        charge(1, 400);
        skip(1);
        vault.release(list(allocation));
        assertEq(available(owner), AMPLE - 400);
    }

    function testFuzz_onlyTheOwnerChangesAllocations(address who) public {
        vm.assume(who != owner);
        grant(1, 1000, 1);
        vm.startPrank(who);
        reverts(ICreditVault.AllocationNotOpen.selector);
        vault.endAllocation(operator, 1);
        reverts(ICreditVault.AllocationNotOpen.selector);
        vault.raiseAllocation(operator, 1, 2000, type(uint40).max);
        vault.voidAllocation(operator, 2);
        vm.stopPrank();
        grant(2, 10, 0);
    }

    function testFuzz_voidAllocation(uint256 id) public {
        ICreditVault.Allocation memory a = terms(id, 100, 1);
        bytes memory signature = signed(ownerKey, vault.allocationDigest(a));
        bytes32 allocation = vault.allocationId(owner, operator, id);
        vm.startPrank(owner);
        vm.expectEmit();
        emit ICreditVault.AllocationVoided(owner, operator, allocation, id);
        vault.voidAllocation(operator, id);
        vm.expectRevert(abi.encodeWithSelector(ICreditVault.AllocationExists.selector, allocation));
        vault.allocateBySignature(a, signature);
        vm.expectRevert(abi.encodeWithSelector(ICreditVault.AllocationExists.selector, allocation));
        vault.voidAllocation(operator, id);
        vault.release(list(allocation));
        assertEq(available(owner), AMPLE);
        assertEq(uint8(vault.allocationOf(allocation).status), uint8(ICreditVault.Status.CLOSED));
    }

    function test_theVaultOperatesNothing() public {
        vm.prank(owner);
        vm.expectRevert(ICreditVault.InvalidAllocation.selector);
        vault.allocate(address(vault), 1, 10, 0, NOW, NOW + 1);
    }

    function test_aNumberIsUsedOnce() public {
        bytes32 allocation = grant(1, 1000, 0);
        skip(40 days);
        vault.release(list(allocation));
        vm.startPrank(owner);
        vm.expectRevert(abi.encodeWithSelector(ICreditVault.AllocationExists.selector, allocation));
        vault.allocate(operator, 1, 1000, 0, NOW, type(uint40).max);
        vm.expectRevert(abi.encodeWithSelector(ICreditVault.AllocationNotOpen.selector, allocation));
        vault.endAllocation(operator, 1);
    }

    function test_openAllocationsAreBoundedAndListed() public {
        bytes32[] memory all = new bytes32[](64);
        for (uint256 i = 0; i < 64; ++i) {
            all[i] = grant(i, 10, 0);
        }
        vm.startPrank(owner);
        vm.expectRevert(ICreditVault.TooManyAllocations.selector);
        vault.allocate(operator, 64, 10, 0, NOW, NOW + 1);
        vm.stopPrank();
        assertEq(vault.allocationsOf(owner).length, 64);
        vm.prank(operator);
        vault.relinquish(list(all[0], all[63]));
        bytes32[] memory open = vault.allocationsOf(owner);
        assertEq(open.length, 62);
        for (uint256 i = 0; i < open.length; ++i) {
            assertTrue(open[i] != all[0] && open[i] != all[63]);
        }
        assertEq(vault.accountOf(owner).reserved, 620);
        grant(64, 10, 0);
        // Each is still found when it is closed, wherever it was moved.
        skip(40 days);
        vault.release(vault.allocationsOf(owner));
        assertEq(vault.allocationsOf(owner).length, 0);
        assertEq(available(owner), AMPLE);
    }

    function _check(ICreditVault.Allocation memory a, bytes32 allocation) private view {
        ICreditVault.AllocationView memory v = vault.allocationOf(allocation);
        assertEq(
            abi.encode(v.owner, v.operator, v.id, v.cap, v.rate, v.start, v.expires),
            abi.encode(a.owner, a.operator, a.id, a.cap, a.rate, a.start, a.expires)
        );
        assertEq(uint8(v.status), uint8(ICreditVault.Status.OPEN));
        assertEq(taken(allocation), 0);
        ICreditVault.AccountView memory account = vault.accountOf(a.owner);
        assertEq(account.reserved, a.cap);
        assertEq(account.available, AMPLE - a.cap);
        assertEq(account.balance, AMPLE);
        bytes32[] memory open = vault.allocationsOf(a.owner);
        assertEq(open.length, 1);
        assertEq(open[0], allocation);
    }
}
