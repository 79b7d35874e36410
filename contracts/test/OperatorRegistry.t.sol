// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {OperatorRegistry} from "../src/OperatorRegistry.sol";
import {ICreditVault} from "../src/interfaces/ICreditVault.sol";
import {IOperatorRegistry} from "../src/interfaces/IOperatorRegistry.sol";
import {World} from "./World.sol";
import {Wallet} from "./mocks/Wallet.sol";

contract OperatorRegistryTest is World {
    uint96 private constant LEAST = 100e6;

    OperatorRegistry private registry;
    address private treasury = makeAddr("treasury");

    function setUp() public override {
        super.setUp();
        registry = new OperatorRegistry(vault, treasury, LEAST);
    }

    function testFuzz_register(uint96 stake, bytes calldata peerId, string calldata http, bytes32 prices)
        public
    {
        stake = uint96(bound(stake, 0, AMPLE * 2));
        vm.startPrank(owner);
        vault.approve(address(registry), AMPLE);
        if (stake < LEAST) {
            vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.StakeTooSmall.selector, stake, LEAST));
        } else if (peerId.length == 0 || peerId.length > 64) {
            vm.expectRevert(IOperatorRegistry.InvalidPeerId.selector);
        } else if (bytes(http).length == 0 || bytes(http).length > 255) {
            vm.expectRevert(IOperatorRegistry.InvalidHttp.selector);
        } else if (stake > AMPLE) {
            reverts(ICreditVault.InsufficientAllowance.selector);
        } else {
            registry.register(stake, peerId, http, prices);
            IOperatorRegistry.Operator memory o = registry.operatorOf(owner);
            assertEq(
                abi.encode(o.stake, o.peerId, o.http, o.priceListHash),
                abi.encode(stake, peerId, http, prices)
            );
            assertTrue(registry.isOperator(owner));
            assertEq(available(address(registry)), stake);
            vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.AlreadyRegistered.selector, owner));
        }
        registry.register(stake, peerId, http, prices);
    }

    function testFuzz_update(string memory http, bytes32 prices) public {
        vm.assume(bytes(http).length > 0 && bytes(http).length < 256);
        _register(owner, LEAST);
        vm.startPrank(owner);
        vm.expectEmit();
        emit IOperatorRegistry.OperatorUpdated(owner, "new", http, prices);
        registry.update("new", http, prices);
        assertEq(registry.operatorOf(owner).http, http);
        assertEq(registry.operatorOf(owner).stake, LEAST);
        vm.expectRevert(IOperatorRegistry.InvalidPeerId.selector);
        registry.update(new bytes(65), http, prices);
        vm.expectRevert(IOperatorRegistry.InvalidHttp.selector);
        registry.update("new", "", prices);
        vm.stopPrank();
        vm.prank(stranger);
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.NotActive.selector, stranger));
        registry.update("new", http, prices);
    }

    function testFuzz_addStake(uint96 amount) public {
        amount = uint96(bound(amount, 0, AMPLE - LEAST));
        _register(owner, LEAST);
        vm.startPrank(owner);
        vault.approve(address(registry), amount);
        registry.addStake(amount);
        assertEq(registry.operatorOf(owner).stake, LEAST + amount);
        assertEq(available(address(registry)), LEAST + amount);
        registry.deregister();
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.NotActive.selector, owner));
        registry.addStake(0);
    }

    function testFuzz_leave(uint96 stake, uint40 wait) public {
        stake = uint96(bound(stake, LEAST, AMPLE));
        wait = uint40(bound(wait, 0, 30 days));
        _register(owner, stake);
        vm.startPrank(owner);
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.NotLeaving.selector, owner));
        registry.withdrawStake();
        registry.deregister();
        assertFalse(registry.isOperator(owner));
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.NotActive.selector, owner));
        registry.deregister();
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.AlreadyRegistered.selector, owner));
        registry.register(stake, "peer", "http://a", 0);
        skip(wait);
        if (wait < 14 days) {
            vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.TooEarly.selector, NOW + 14 days));
            registry.withdrawStake();
            return;
        }
        registry.withdrawStake();
        assertEq(available(owner), AMPLE);
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.NotLeaving.selector, owner));
        registry.withdrawStake();
        vm.stopPrank();
        _register(owner, stake);
    }

    function testFuzz_slash(
        uint96 stake,
        bytes32 allocation,
        uint96 total,
        bytes32 a,
        bytes32 b,
        bool leaving
    ) public {
        vm.assume(a != b);
        stake = uint96(bound(stake, LEAST, AMPLE));
        _register(owner, stake);
        if (leaving) {
            vm.prank(owner);
            registry.deregister();
        }
        IOperatorRegistry.UsageStatement memory one_ = _statement(allocation, total, a);
        IOperatorRegistry.UsageStatement memory other = _statement(allocation, total, b);
        bytes memory signature = _sign(one_);
        bytes memory otherSignature = _sign(other);
        vm.startPrank(stranger);
        registry.slash(one_, signature, other, otherSignature);
        assertEq(available(stranger), stake / 10);
        assertEq(available(treasury), stake - stake / 10);
        assertEq(available(address(registry)), 0);
        assertFalse(registry.isOperator(owner));
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.NotActive.selector, owner));
        registry.slash(one_, signature, other, otherSignature);
        vm.stopPrank();
        vm.startPrank(owner);
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.NotLeaving.selector, owner));
        registry.withdrawStake();
        vm.expectRevert(abi.encodeWithSelector(IOperatorRegistry.AlreadyRegistered.selector, owner));
        registry.register(LEAST, "peer", "http://a", 0);
    }

    function testFuzz_whatIsNoEvidence(bytes32 allocation, uint96 total, bytes32 a, bytes32 b) public {
        vm.assume(a != b && total < type(uint96).max);
        _register(owner, LEAST);
        IOperatorRegistry.UsageStatement memory one_ = _statement(allocation, total, a);
        bytes memory signature = _sign(one_);
        vm.expectRevert(IOperatorRegistry.NotEquivocation.selector);
        registry.slash(one_, signature, one_, signature);
        IOperatorRegistry.UsageStatement memory other = _statement(allocation, total + 1, b);
        bytes memory otherSignature = _sign(other);
        vm.expectRevert(IOperatorRegistry.NotEquivocation.selector);
        registry.slash(one_, signature, other, otherSignature);
        other = _statement(~allocation, total, b);
        otherSignature = _sign(other);
        vm.expectRevert(IOperatorRegistry.NotEquivocation.selector);
        registry.slash(one_, signature, other, otherSignature);
        // Signed by somebody else, or on another chain.
        other = _statement(allocation, total, b);
        otherSignature = signed(uint256(keccak256("somebody")), registry.statementDigest(other));
        vm.expectRevert(IOperatorRegistry.InvalidSignature.selector);
        registry.slash(one_, signature, other, otherSignature);
        vm.expectRevert(IOperatorRegistry.InvalidSignature.selector);
        registry.slash(other, otherSignature, one_, signature);
        otherSignature = _sign(other);
        vm.chainId(5);
        vm.expectRevert(IOperatorRegistry.InvalidSignature.selector);
        registry.slash(one_, signature, other, otherSignature);
        assertTrue(registry.isOperator(owner));
    }

    function test_contractAccountsOperateToo() public {
        Wallet wallet = new Wallet(owner);
        fund(address(wallet), LEAST);
        wallet.run(address(vault), abi.encodeCall(vault.approve, (address(registry), LEAST)));
        wallet.run(
            address(registry), abi.encodeCall(registry.register, (LEAST, "peer", "http://a", bytes32(0)))
        );
        IOperatorRegistry.UsageStatement memory one_ = _statement(0, 1, "a");
        IOperatorRegistry.UsageStatement memory other = _statement(0, 1, "b");
        (one_.operator, other.operator) = (address(wallet), address(wallet));
        bytes memory signature = _sign(one_);
        bytes memory otherSignature = _sign(other);
        registry.slash(one_, signature, other, otherSignature);
        assertFalse(registry.isOperator(address(wallet)));
    }

    function test_zeroAddresses() public {
        vm.expectRevert(IOperatorRegistry.ZeroAddress.selector);
        new OperatorRegistry(ICreditVault(address(0)), treasury, 1);
        vm.expectRevert(IOperatorRegistry.ZeroAddress.selector);
        new OperatorRegistry(vault, address(0), 1);
    }

    function _register(address who, uint96 stake) private {
        vm.startPrank(who);
        vault.approve(address(registry), stake);
        registry.register(stake, "peer", "http://a", 0);
        vm.stopPrank();
    }

    function _statement(bytes32 allocation, uint96 total, bytes32 root)
        private
        view
        returns (IOperatorRegistry.UsageStatement memory)
    {
        return IOperatorRegistry.UsageStatement(owner, allocation, total, root);
    }

    function _sign(IOperatorRegistry.UsageStatement memory statement) private view returns (bytes memory) {
        return signed(ownerKey, registry.statementDigest(statement));
    }
}
