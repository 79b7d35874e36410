// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {ICreditVault} from "./interfaces/ICreditVault.sol";
import {IOperatorRegistry} from "./interfaces/IOperatorRegistry.sol";
import {Signatures} from "./libraries/Signatures.sol";

/// @title Operators and their stakes, which only the operator gets back and only evidence takes away.
/// @dev Calls nothing but the vault, which calls nobody back.
contract OperatorRegistry is IOperatorRegistry, EIP712 {
    /// @inheritdoc IOperatorRegistry
    uint40 public constant EXIT_DELAY = 14 days;

    bytes32 private constant STATEMENT_TYPEHASH =
        keccak256("UsageStatement(address operator,bytes32 allocation,uint96 cumulative,bytes32 usageRoot)");
    uint256 private constant REWARD_DIVISOR = 10;

    /// @notice Where the stakes are.
    ICreditVault public immutable VAULT;
    /// @notice Gets what slashing takes, less the reporter's reward.
    address public immutable TREASURY;
    /// @inheritdoc IOperatorRegistry
    uint256 public immutable MIN_STAKE;

    mapping(address operator => Operator) private _operators;

    /// @param vault Where the stakes will be.
    /// @param treasury Gets what slashing takes.
    /// @param minStake Credits that an operator has at stake at least.
    constructor(ICreditVault vault, address treasury, uint96 minStake)
        EIP712("DecentraSpace OperatorRegistry", "1")
    {
        if (address(vault) == address(0) || treasury == address(0)) revert ZeroAddress();
        (VAULT, TREASURY, MIN_STAKE) = (vault, treasury, minStake);
    }

    /// @inheritdoc IOperatorRegistry
    function register(uint96 stake, bytes calldata peerId, string calldata http, bytes32 priceListHash)
        external
    {
        Operator storage operator = _operators[msg.sender];
        if (operator.standing != Standing.NONE) revert AlreadyRegistered(msg.sender);
        if (stake < MIN_STAKE) revert StakeTooSmall(stake, MIN_STAKE);
        operator.stake = stake;
        operator.standing = Standing.ACTIVE;
        _describe(operator, peerId, http, priceListHash);
        emit OperatorRegistered(msg.sender, stake, peerId, http, priceListHash);
        VAULT.transferFrom(msg.sender, address(this), stake);
    }

    /// @inheritdoc IOperatorRegistry
    function update(bytes calldata peerId, string calldata http, bytes32 priceListHash) external {
        _describe(_active(), peerId, http, priceListHash);
        emit OperatorUpdated(msg.sender, peerId, http, priceListHash);
    }

    /// @inheritdoc IOperatorRegistry
    function addStake(uint96 amount) external {
        Operator storage operator = _active();
        operator.stake += amount;
        emit StakeAdded(msg.sender, amount, operator.stake);
        VAULT.transferFrom(msg.sender, address(this), amount);
    }

    /// @inheritdoc IOperatorRegistry
    function deregister() external {
        Operator storage operator = _active();
        operator.standing = Standing.LEAVING;
        operator.leavesAt = uint40(block.timestamp) + EXIT_DELAY;
        emit OperatorLeaving(msg.sender, operator.leavesAt);
    }

    /// @inheritdoc IOperatorRegistry
    function withdrawStake() external {
        Operator storage operator = _operators[msg.sender];
        if (operator.standing != Standing.LEAVING) revert NotLeaving(msg.sender);
        if (block.timestamp < operator.leavesAt) revert TooEarly(operator.leavesAt);
        uint96 stake = operator.stake;
        delete _operators[msg.sender];
        emit OperatorRemoved(msg.sender, stake);
        VAULT.transfer(msg.sender, stake);
    }

    /// @inheritdoc IOperatorRegistry
    function slash(
        UsageStatement calldata one,
        bytes calldata signature,
        UsageStatement calldata other,
        bytes calldata otherSignature
    ) external {
        if (
            one.operator != other.operator || one.allocation != other.allocation
                || one.cumulative != other.cumulative || one.usageRoot == other.usageRoot
        ) revert NotEquivocation();
        Operator storage operator = _operators[one.operator];
        if (operator.standing != Standing.ACTIVE && operator.standing != Standing.LEAVING) {
            revert NotActive(one.operator);
        }
        if (
            !Signatures.isValid(one.operator, statementDigest(one), signature)
                || !Signatures.isValid(one.operator, statementDigest(other), otherSignature)
        ) revert InvalidSignature();
        // The reward is a small part, or an operator would report itself to have its stake back at once.
        uint256 reward = operator.stake / REWARD_DIVISOR;
        uint256 penalty = operator.stake - reward;
        operator.stake = 0;
        operator.leavesAt = 0;
        operator.standing = Standing.SLASHED;
        emit OperatorSlashed(one.operator, msg.sender, one.allocation, one.cumulative, reward, penalty);
        VAULT.transfer(TREASURY, penalty);
        VAULT.transfer(msg.sender, reward);
    }

    /// @inheritdoc IOperatorRegistry
    function isOperator(address operator) external view returns (bool) {
        return _operators[operator].standing == Standing.ACTIVE;
    }

    /// @inheritdoc IOperatorRegistry
    function operatorOf(address operator) external view returns (Operator memory) {
        return _operators[operator];
    }

    /// @inheritdoc IOperatorRegistry
    function statementDigest(UsageStatement calldata statement) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(STATEMENT_TYPEHASH, statement)));
    }

    function _describe(
        Operator storage operator,
        bytes calldata peerId,
        string calldata http,
        bytes32 priceListHash
    ) private {
        if (peerId.length == 0 || peerId.length > 64) revert InvalidPeerId();
        uint256 length = bytes(http).length;
        if (length == 0 || length > 255) revert InvalidHttp();
        operator.peerId = peerId;
        operator.http = http;
        operator.priceListHash = priceListHash;
    }

    function _active() private view returns (Operator storage operator) {
        operator = _operators[msg.sender];
        if (operator.standing != Standing.ACTIVE) revert NotActive(msg.sender);
    }
}
