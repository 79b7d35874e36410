// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";

import {CreditVault} from "../src/CreditVault.sol";
import {ICreditVault} from "../src/interfaces/ICreditVault.sol";
import {IPermit2} from "../src/interfaces/IPermit2.sol";
import {World} from "./World.sol";
import {HostileToken, IdlePermit2, WrongDecimals} from "./mocks/Hostile.sol";
import {Permit2} from "./mocks/Permit2.sol";

contract DepositsTest is World {
    string private constant WITNESS_TYPE =
        "Recharge witness)Recharge(address owner)TokenPermissions(address token,uint256 amount)";

    function testFuzz_deposit(uint64 amount) public {
        amount = uint64(bound(amount, 1, type(uint64).max - AMPLE));
        dollar.mint(stranger, amount);
        vm.startPrank(stranger);
        dollar.approve(address(vault), amount);
        vm.expectEmit();
        emit ICreditVault.Recharged(stranger, stranger, amount);
        vault.deposit(amount);
        assertEq(vault.accountOf(stranger).balance, amount);
        assertEq(vault.accountOf(stranger).reserved, 0);
        assertEq(vault.totalCredits(), AMPLE + amount);
        assertEq(dollar.balanceOf(address(vault)), AMPLE + amount);
    }

    function testFuzz_depositFor(address to, uint64 amount) public {
        vm.assume(to != address(0) && to != owner && to != address(vault));
        amount = uint64(bound(amount, 1, AMPLE));
        dollar.mint(stranger, amount);
        vm.startPrank(stranger);
        dollar.approve(address(vault), amount);
        vm.expectEmit();
        emit ICreditVault.Recharged(to, stranger, amount);
        vault.depositFor(to, amount);
        assertEq(available(to), amount);
    }

    function test_depositNeedsTokensAndAnOwner() public {
        vm.startPrank(stranger);
        dollar.approve(address(vault), 10);
        reverts(IERC20Errors.ERC20InsufficientBalance.selector);
        vault.deposit(10);
        dollar.mint(stranger, 10);
        reverts(ICreditVault.BadRecipient.selector);
        vault.depositFor(address(0), 10);
        reverts(ICreditVault.BadRecipient.selector);
        vault.depositFor(address(vault), 10);
        reverts(ICreditVault.ZeroAmount.selector);
        vault.deposit(0);
    }

    function test_allCreditsFit64Bits() public {
        uint256 room = type(uint64).max - AMPLE;
        fund(stranger, room);
        dollar.mint(stranger, 1);
        vm.startPrank(stranger);
        dollar.approve(address(vault), 1);
        reverts(ICreditVault.VaultFull.selector);
        vault.deposit(1);
    }

    function testFuzz_depositWithPermit(uint64 amount, uint256 key, bool sentBefore) public {
        amount = uint64(bound(amount, 1, AMPLE));
        key = boundPrivateKey(key);
        address payer = vm.addr(key);
        vm.assume(payer.code.length == 0 && payer != owner);
        dollar.mint(payer, amount);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, _permitDigest(payer, amount, NOW));
        // Whoever saw it in the mempool sends the permit alone: the deposit works all the same.
        if (sentBefore) dollar.permit(payer, address(vault), amount, NOW, v, r, s);
        vm.prank(payer);
        vault.depositWithPermit(operator, amount, NOW, v, r, s);
        assertEq(available(operator), amount);
        assertEq(dollar.allowance(payer, address(vault)), 0);
    }

    function test_somebodyElsesPermitMovesNothing() public {
        dollar.mint(owner, 10);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(ownerKey, _permitDigest(owner, 10, NOW));
        vm.prank(stranger);
        reverts(IERC20Errors.ERC20InsufficientAllowance.selector);
        vault.depositWithPermit(stranger, 10, NOW, v, r, s);
        assertEq(dollar.balanceOf(owner), 10);
    }

    function testFuzz_depositWithPermit2(uint64 amount, uint256 nonce, address to) public {
        vm.assume(to != address(0) && to != owner && to != address(vault));
        amount = uint64(bound(amount, 1, AMPLE));
        _approvePermit2(amount);
        bytes memory signature = _permit2Signature(amount, nonce, to);
        vm.prank(stranger);
        vm.expectEmit();
        emit ICreditVault.Recharged(to, owner, amount);
        vault.depositWithPermit2(owner, to, amount, nonce, NOW, signature);
        assertEq(available(to), amount);
        dollar.mint(owner, amount);
        vm.expectRevert(Permit2.InvalidNonce.selector);
        vault.depositWithPermit2(owner, to, amount, nonce, NOW, signature);
    }

    function test_permit2NamesWhoIsCredited() public {
        _approvePermit2(10);
        bytes memory signature = _permit2Signature(10, 1, owner);
        vm.expectRevert(Permit2.InvalidSigner.selector);
        vault.depositWithPermit2(owner, stranger, 10, 1, NOW, signature);
        vm.expectRevert(Permit2.InvalidSigner.selector);
        vault.depositWithPermit2(owner, owner, 9, 1, NOW, signature);
    }

    function test_permit2MayBeAbsentOrIdle() public {
        CreditVault.Settings memory s = settings();
        s.permit2 = IPermit2(address(0));
        vault = new CreditVault(s);
        vm.expectRevert(ICreditVault.Permit2Unavailable.selector);
        vault.depositWithPermit2(owner, owner, 10, 1, NOW, "");
        s.permit2 = new IdlePermit2();
        vault = new CreditVault(s);
        vm.expectRevert(abi.encodeWithSelector(ICreditVault.NotReceived.selector, 10, 0));
        vault.depositWithPermit2(owner, owner, 10, 1, NOW, "");
    }

    function test_tokensThatDoNotMoveWhatTheyAreTold() public {
        HostileToken hostile = _hostileVault();
        hostile.setFee(1);
        vm.startPrank(stranger);
        vm.expectRevert(abi.encodeWithSelector(ICreditVault.NotReceived.selector, 10, 9));
        vault.deposit(10);
        hostile.setFee(0);
        hostile.setLies(true);
        vm.expectRevert(abi.encodeWithSelector(ICreditVault.NotReceived.selector, 10, 0));
        vault.deposit(10);
    }

    function test_tokensThatCallBack() public {
        HostileToken hostile = _hostileVault();
        bytes[] memory calls = new bytes[](5);
        calls[0] = abi.encodeCall(vault.deposit, (5));
        calls[1] = abi.encodeCall(vault.depositFor, (stranger, 5));
        calls[2] = abi.encodeCall(vault.depositWithPermit, (stranger, 5, 0, 0, 0, 0));
        calls[3] = abi.encodeCall(vault.depositWithPermit2, (stranger, stranger, 5, 0, 0, ""));
        calls[4] = abi.encodeCall(vault.withdraw, (stranger));
        for (uint256 i = 0; i < calls.length; ++i) {
            hostile.setCall(address(vault), calls[i]);
            vm.prank(stranger);
            vault.deposit(10);
            assertFalse(hostile.succeeded());
            assertEq(bytes4(hostile.answer()), bytes4(keccak256("ReentrancyGuardReentrantCall()")));
        }
        assertEq(available(stranger), 50);
        assertEq(vault.totalCredits(), 50);
    }

    function test_decimals() public {
        CreditVault.Settings memory s = settings();
        s.token = new WrongDecimals();
        vm.expectRevert(abi.encodeWithSelector(ICreditVault.TokenDecimals.selector, 18));
        new CreditVault(s);
    }

    function testFuzz_sweep(uint64 donation, uint64 other) public {
        dollar.mint(address(vault), donation);
        HostileToken stray = new HostileToken();
        stray.mint(address(vault), other);
        vm.startPrank(timelock);
        vault.sweep(dollar, stranger);
        vault.sweep(stray, stranger);
        assertEq(dollar.balanceOf(stranger), donation);
        assertEq(stray.balanceOf(stranger), other);
        assertEq(dollar.balanceOf(address(vault)), vault.totalCredits());
        reverts(ICreditVault.BadRecipient.selector);
        vault.sweep(dollar, address(vault));
    }

    function test_onlyTheTimelockSweeps() public {
        reverts(bytes4(keccak256("OwnableUnauthorizedAccount(address)")));
        vault.sweep(dollar, stranger);
    }

    function test_views() public view {
        assertEq(address(vault.token()), address(dollar));
        assertGt(vault.WITHDRAWAL_DELAY(), vault.SETTLEMENT_WINDOW());
        (, string memory name, string memory version, uint256 chain, address where,,) = vault.eip712Domain();
        assertEq(name, "DecentraSpace CreditVault");
        assertEq(version, "1");
        assertEq(chain, block.chainid);
        assertEq(where, address(vault));
    }

    function _hostileVault() private returns (HostileToken hostile) {
        hostile = new HostileToken();
        CreditVault.Settings memory s = settings();
        s.token = IERC20Metadata(address(hostile));
        vault = new CreditVault(s);
        hostile.mint(stranger, 1000);
        vm.prank(stranger);
        hostile.approve(address(vault), 1000);
    }

    function _approvePermit2(uint256 amount) private {
        dollar.mint(owner, amount);
        vm.prank(owner);
        IERC20(dollar).approve(address(permit2), type(uint256).max);
    }

    function _permit2Signature(uint256 amount, uint256 nonce, address to)
        private
        view
        returns (bytes memory)
    {
        bytes32 witness = keccak256(abi.encode(keccak256("Recharge(address owner)"), to));
        IPermit2.PermitTransferFrom memory permit =
            IPermit2.PermitTransferFrom(IPermit2.TokenPermissions(address(dollar), amount), nonce, NOW);
        return signed(ownerKey, permit2.digestOf(permit, address(vault), witness, WITNESS_TYPE));
    }

    function _permitDigest(address payer, uint256 amount, uint256 deadline) private view returns (bytes32) {
        bytes32 typeHash =
            keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        uint256 nonce = dollar.nonces(payer);
        bytes32 structHash = keccak256(abi.encode(typeHash, payer, address(vault), amount, nonce, deadline));
        return keccak256(abi.encodePacked("\x19\x01", dollar.DOMAIN_SEPARATOR(), structHash));
    }
}
