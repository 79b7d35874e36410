// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

/// @title Credits: held for owners, reserved for operators, settled within what owners allowed.
/// @notice One credit is one base unit of a stable coin with six decimals. Times are Unix seconds.
///
/// An owner's balance has three parts: what is available, what was requested for withdrawal, and what is left
/// of the caps of open allocations. A cap leaves the available part when it is granted, so that the same
/// credit is never promised twice, and what is left of it returns when the allocation is closed.
interface ICreditVault {
    /// @notice What an owner grants to an operator; also what is signed (EIP-712).
    /// @param owner Who pays.
    /// @param operator Who is paid.
    /// @param id Chosen by the owner; never used twice for the same operator.
    /// @param cap Credits that the operator may take in all.
    /// @param rate Credits per second of the stream, at most `cap`.
    /// @param start When the stream starts; in the past, it is due from then.
    /// @param expires When the stream ends; charges are taken until SETTLEMENT_WINDOW later.
    struct Allocation {
        address owner;
        address operator;
        uint256 id;
        uint96 cap;
        uint96 rate;
        uint40 start;
        uint40 expires;
    }

    /// @notice An allocation of the caller, and the total ever charged by meter under it.
    struct Charge {
        address owner;
        uint256 id;
        uint96 cumulative;
    }

    /// @notice One owner's credits: `balance` = `available` + `reserved`.
    /// @param balance Everything that is the owner's.
    /// @param reserved What open allocations may still take, and `withdrawing`.
    /// @param available What may be allocated, moved, or requested for withdrawal.
    /// @param withdrawing What was requested for withdrawal.
    /// @param withdrawableAt From when `withdrawing` may be withdrawn; 0 without a request.
    struct AccountView {
        uint256 balance;
        uint256 reserved;
        uint256 available;
        uint256 withdrawing;
        uint40 withdrawableAt;
    }

    /// @notice NONE was never granted, OPEN reserves what is left of its cap, CLOSED reserves nothing.
    enum Status {
        NONE,
        OPEN,
        CLOSED
    }

    /// @notice An allocation as it stands; all zero but `status` and the parties where it was voided.
    /// @param metered Credits taken by meter.
    /// @param streamed Credits taken by stream.
    /// @param streamDue Credits that settleStreams would take now.
    struct AllocationView {
        address owner;
        address operator;
        uint256 id;
        uint96 cap;
        uint96 rate;
        uint40 start;
        uint40 expires;
        Status status;
        uint96 metered;
        uint96 streamed;
        uint96 streamDue;
    }

    /// @notice Why an entry of a batch was passed over.
    /// UNKNOWN: the caller has no such allocation. CLOSED: its settlement window is over.
    /// NOTHING_DUE: as much was settled before. OVER_CAP: more than is left of the cap.
    enum SkipReason {
        UNKNOWN,
        CLOSED,
        NOTHING_DUE,
        OVER_CAP
    }

    event Recharged(address indexed owner, address indexed from, uint256 amount);
    event CreditsMoved(address indexed from, address indexed to, uint256 amount);
    event SpenderApproved(address indexed owner, address indexed spender, uint256 amount);
    event NativeSold(address indexed owner, uint256 value, uint256 credits);
    event WithdrawalRequested(address indexed owner, uint256 withdrawing, uint40 withdrawableAt);
    event WithdrawalCancelled(address indexed owner, uint256 amount);
    event Withdrawn(address indexed owner, address indexed to, uint256 amount);
    event LimitChanged(
        address indexed owner,
        address indexed operator,
        bytes32 indexed allocation,
        uint96 cap,
        uint96 rate,
        uint40 start,
        uint40 expires,
        uint256 id
    );
    event AllocationVoided(
        address indexed owner, address indexed operator, bytes32 indexed allocation, uint256 id
    );
    event Settled(
        address indexed operator,
        address indexed owner,
        bytes32 indexed allocation,
        uint256 amount,
        uint256 cumulative
    );
    event StreamSettled(
        address indexed operator,
        address indexed owner,
        bytes32 indexed allocation,
        uint256 amount,
        uint256 cumulative
    );
    event ChargeSkipped(address indexed operator, bytes32 indexed allocation, SkipReason reason);
    event BatchSettled(address indexed operator, bytes32 indexed root, uint256 charges, uint256 amount);
    event CreditDepleted(address indexed owner, address indexed operator, bytes32 indexed allocation);
    event Released(
        address indexed owner, address indexed operator, bytes32 indexed allocation, uint256 amount
    );
    event PausedUntil(uint40 until);
    event Swept(address indexed token, address indexed to, uint256 amount);

    error ZeroAddress();
    error ZeroAmount();
    error TokenDecimals(uint8 decimals);
    error NotReceived(uint256 expected, uint256 received);
    error VaultFull(uint256 total);
    error InsufficientCredits(uint256 available, uint256 needed);
    error InsufficientAllowance(uint256 allowed, uint256 needed);
    error Permit2Unavailable();
    error NativeUnavailable();
    error PriceUnusable(int256 answer, uint256 updatedAt);
    error BelowBound(uint256 credits, uint256 minCredits);
    error NotDesk(address caller);
    error NativeNotTaken(address to);
    error NothingRequested();
    error TooEarly(uint256 from);
    error BadRecipient(address to);
    error InvalidAllocation();
    error AllocationExists(bytes32 allocation);
    error AllocationNotOpen(bytes32 allocation);
    error AllocationExpired(bytes32 allocation);
    error NotRaised();
    error TooManyAllocations();
    error InvalidSignature();
    error DepositsPaused(uint256 until);

    /// @notice The stable coin whose base unit is one credit.
    function token() external view returns (IERC20);

    /// @notice Credits of all owners together; at most `token().balanceOf(vault)`.
    function totalCredits() external view returns (uint256);

    /// @notice Seconds after its expiry during which an allocation may still be charged by meter.
    function SETTLEMENT_WINDOW() external view returns (uint40);

    /// @notice Seconds between the request and the withdrawal; longer than SETTLEMENT_WINDOW.
    function WITHDRAWAL_DELAY() external view returns (uint40);

    /// @notice Seconds that an allocation lasts at most after its owner ended it.
    function END_NOTICE() external view returns (uint40);

    /// @notice Open allocations that an owner has at most.
    function MAX_OPEN() external view returns (uint256);

    /// @notice What `owner` has.
    /// @param owner Whose account.
    function accountOf(address owner) external view returns (AccountView memory);

    /// @notice What `spender` may still move of the available credits of `owner`.
    /// @param owner Whose credits.
    /// @param spender Who may move them.
    function allowance(address owner, address spender) external view returns (uint256);

    /// @notice The ids of the open allocations of `owner`, in no order.
    /// @param owner Whose allocations.
    function allocationsOf(address owner) external view returns (bytes32[] memory);

    /// @notice An allocation as it stands.
    /// @param allocation Its id, of `allocationId`.
    function allocationOf(bytes32 allocation) external view returns (AllocationView memory);

    /// @notice keccak256(abi.encode(owner, operator, id)).
    /// @param owner Who pays.
    /// @param operator Who is paid.
    /// @param id The owner's number.
    function allocationId(address owner, address operator, uint256 id) external pure returns (bytes32);

    /// @notice What the owner signs for `allocateBySignature` (EIP-712, with the domain of `eip712Domain`).
    /// @param allocation All of it is signed.
    function allocationDigest(Allocation calldata allocation) external view returns (bytes32);

    /// @notice Adds `amount` of the caller's tokens, which it approved, to its own credits.
    /// @param amount Base units of the token.
    function deposit(uint256 amount) external;

    /// @notice Adds `amount` of the caller's tokens, which it approved, to the credits of `owner`.
    /// @param owner Whose credits grow.
    /// @param amount Base units of the token.
    function depositFor(address owner, uint256 amount) external;

    /// @notice As `depositFor`, approved in the same transaction by the caller's EIP-2612 permit. A permit that
    /// somebody else has sent before is no obstacle.
    /// @param owner Whose credits grow.
    /// @param amount Base units of the token.
    /// @param deadline Of the permit.
    /// @param v Of the caller's signature.
    /// @param r Of the caller's signature.
    /// @param s Of the caller's signature.
    function depositWithPermit(address owner, uint256 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external;

    /// @notice Adds `amount` of the tokens of `payer` to the credits of `owner`, by a signature of `payer` for
    /// Permit2 with the witness `Recharge(address owner)`. Anybody may send it.
    /// @param payer Whose tokens, and who signed.
    /// @param owner Whose credits grow; signed.
    /// @param amount Base units of the token; signed.
    /// @param nonce Of the permit; signed.
    /// @param deadline Of the permit; signed.
    /// @param signature As Permit2 takes it.
    function depositWithPermit2(
        address payer,
        address owner,
        uint256 amount,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external;

    /// @notice Buys credits for the chain's own coin from the desk, at the feed's price less the spread. The
    /// desk offers what it approved this contract to move of its available credits.
    /// @param owner Whose credits grow.
    /// @param minCredits Reverts rather than giving less.
    /// @return credits What was given.
    function depositNative(address owner, uint256 minCredits) external payable returns (uint256 credits);

    /// @notice What `depositNative` would give for `value`; reverts where the feed is absent or stale.
    /// @param value Of the chain's coin, in wei.
    function quoteNative(uint256 value) external view returns (uint256 credits);

    /// @notice Pays out to the desk, its only caller, what was paid for credits in the chain's coin.
    /// @param to Who receives it.
    function claimNative(address payable to) external;

    /// @notice Moves available credits of the caller.
    /// @param to Whose credits grow.
    /// @param amount Credits.
    function transfer(address to, uint256 amount) external;

    /// @notice Moves available credits of `from`, within what it approved the caller to move.
    /// @param from Whose credits shrink.
    /// @param to Whose credits grow.
    /// @param amount Credits.
    function transferFrom(address from, address to, uint256 amount) external;

    /// @notice Lets `spender` move available credits of the caller; replaces what it might move before.
    /// @param spender Who may.
    /// @param amount Credits; the largest number stays as it is when credits are moved.
    function approve(address spender, uint256 amount) external;

    /// @notice Sets available credits of the caller aside for withdrawal; the delay starts (again).
    /// @param amount Credits, besides those requested before.
    function requestWithdrawal(uint256 amount) external;

    /// @notice Makes all that the caller requested for withdrawal available again.
    function cancelWithdrawal() external;

    /// @notice Pays out all that the caller requested for withdrawal, once the delay is over.
    /// @param to Who receives the tokens.
    function withdraw(address to) external;

    /// @notice Grants an allocation of the caller's available credits.
    /// @param operator Who is paid.
    /// @param id Not used before for this operator.
    /// @param cap Credits, reserved at once.
    /// @param rate Credits per second, at most `cap`.
    /// @param start When the stream starts.
    /// @param expires When the stream ends; in the future.
    function allocate(address operator, uint256 id, uint96 cap, uint96 rate, uint40 start, uint40 expires)
        external;

    /// @notice Grants an allocation that its owner signed. Anybody may send it, once.
    /// @param allocation What was signed.
    /// @param signature By the owner: of 65 bytes, or what its contract accepts (EIP-1271).
    function allocateBySignature(Allocation calldata allocation, bytes calldata signature) external;

    /// @notice Raises the cap, the expiry or both of an open allocation of the caller which has not expired.
    /// @param operator Who is paid.
    /// @param id The caller's number.
    /// @param cap At least the present one; the difference is reserved.
    /// @param expires At least the present one.
    function raiseAllocation(address operator, uint256 id, uint96 cap, uint40 expires) external;

    /// @notice Lets an allocation of the caller expire in END_NOTICE seconds, or earlier if it would have.
    /// @param operator Who is paid.
    /// @param id The caller's number.
    function endAllocation(address operator, uint256 id) external;

    /// @notice Makes a number of the caller useless, so that an allocation it signed can be sent no more.
    /// @param operator Who would be paid.
    /// @param id The caller's number.
    function voidAllocation(address operator, uint256 id) external;

    /// @notice Takes what the caller may charge by meter: of each entry its total less what was settled before,
    /// or nothing. An entry that cannot be settled is passed over with the reason; the others are settled.
    /// @param charges Entries; each stands for itself.
    /// @param root Merkle root over the charges and their usage records.
    function settle(Charge[] calldata charges, bytes32 root) external;

    /// @notice Pays operators what their streams have earned. Anybody may call it, at any time.
    /// @param allocations Ids; those that are not open or have nothing due are passed over.
    function settleStreams(bytes32[] calldata allocations) external;

    /// @notice Closes allocations whose settlement window is over: pays the stream, and gives what is left back
    /// to the owner. Anybody may call it.
    /// @param allocations Ids; those that cannot be closed yet, or are closed, are passed over.
    function release(bytes32[] calldata allocations) external;

    /// @notice Closes allocations of the caller, an operator, at once: pays the stream, and gives what is left
    /// back to the owners.
    /// @param allocations Ids; those that are not the caller's or not open are passed over.
    function relinquish(bytes32[] calldata allocations) external;

    /// @notice Stops deposits and new or raised allocations for MAX_PAUSE seconds; again PAUSE_GAP seconds after
    /// the last pause at the earliest. Nothing stops settling, releasing, moving and withdrawing.
    function pause() external;

    /// @notice Ends the pause.
    function unpause() external;

    /// @notice Until when deposits and allocations are paused; in the past when they are not.
    function pausedUntil() external view returns (uint40);

    /// @notice Moves tokens that nobody's credits stand for: donations, and tokens of other kinds.
    /// @param stray Which token.
    /// @param to Who receives them.
    function sweep(IERC20 stray, address to) external;
}
