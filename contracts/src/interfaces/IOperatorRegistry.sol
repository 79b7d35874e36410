// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Who operates nodes, where they are reached, and what they have at stake.
/// @notice Stakes are credits that the registry holds in the vault. Times are Unix seconds.
interface IOperatorRegistry {
    /// @notice NONE never registered or left, ACTIVE is an operator, LEAVING can still be slashed, SLASHED may not
    /// register again.
    enum Standing {
        NONE,
        ACTIVE,
        LEAVING,
        SLASHED
    }

    /// @param stake Credits.
    /// @param leavesAt From when the stake may be taken back; 0 unless LEAVING.
    /// @param standing See there.
    /// @param peerId Bytes of the node's libp2p peer id.
    /// @param http URL under which the node's API is reached.
    /// @param priceListHash SHA-256 of the price list that the node announces.
    struct Operator {
        uint96 stake;
        uint40 leavesAt;
        Standing standing;
        bytes32 priceListHash;
        bytes peerId;
        string http;
    }

    /// @notice What an operator signs (EIP-712) for each charge: which usage is behind it. Two of one allocation
    /// and one total with different roots are a lie to somebody.
    /// @param operator Who signs.
    /// @param allocation Id of the allocation in the vault.
    /// @param cumulative Total charged by meter.
    /// @param usageRoot Merkle root over the usage records.
    struct UsageStatement {
        address operator;
        bytes32 allocation;
        uint96 cumulative;
        bytes32 usageRoot;
    }

    event OperatorRegistered(
        address indexed operator, uint256 stake, bytes peerId, string http, bytes32 priceListHash
    );
    event OperatorUpdated(address indexed operator, bytes peerId, string http, bytes32 priceListHash);
    event StakeAdded(address indexed operator, uint256 amount, uint256 stake);
    event OperatorLeaving(address indexed operator, uint40 leavesAt);
    event OperatorRemoved(address indexed operator, uint256 stake);
    event OperatorSlashed(
        address indexed operator,
        address indexed reporter,
        bytes32 indexed allocation,
        uint256 cumulative,
        uint256 reward,
        uint256 penalty
    );

    error ZeroAddress();
    error StakeTooSmall(uint256 stake, uint256 least);
    error NotActive(address operator);
    error AlreadyRegistered(address operator);
    error NotLeaving(address operator);
    error TooEarly(uint256 from);
    error InvalidPeerId();
    error InvalidHttp();
    error NotEquivocation();
    error InvalidSignature();

    /// @notice Seconds between leaving and taking the stake back, during which evidence still counts.
    function EXIT_DELAY() external view returns (uint40);

    /// @notice Credits that an operator has at stake at least.
    function MIN_STAKE() external view returns (uint256);

    /// @notice Whether `operator` is registered, and neither leaving nor slashed.
    /// @param operator Its address.
    function isOperator(address operator) external view returns (bool);

    /// @notice What is known of `operator`.
    /// @param operator Its address.
    function operatorOf(address operator) external view returns (Operator memory);

    /// @notice Registers the caller. It approved the registry to move `stake` of its credits in the vault.
    /// @param stake Credits, MIN_STAKE at least.
    /// @param peerId Of 1 to 64 bytes.
    /// @param http Of 1 to 255 bytes.
    /// @param priceListHash SHA-256 of the price list.
    function register(uint96 stake, bytes calldata peerId, string calldata http, bytes32 priceListHash)
        external;

    /// @notice Replaces what is told of the caller.
    /// @param peerId Of 1 to 64 bytes.
    /// @param http Of 1 to 255 bytes.
    /// @param priceListHash SHA-256 of the price list.
    function update(bytes calldata peerId, string calldata http, bytes32 priceListHash) external;

    /// @notice Adds credits that the caller approved to its stake.
    /// @param amount Credits.
    function addStake(uint96 amount) external;

    /// @notice Makes the caller an operator no more; EXIT_DELAY later it may take the stake back.
    function deregister() external;

    /// @notice Gives the stake of the caller back, as credits in the vault.
    function withdrawStake() external;

    /// @notice Takes the whole stake of an operator that signed two statements for one allocation and total with
    /// different roots. A tenth goes to the caller, the rest to the treasury.
    /// @param one A statement.
    /// @param signature The operator's, of `one`.
    /// @param other The statement which contradicts it.
    /// @param otherSignature The operator's, of `other`.
    function slash(
        UsageStatement calldata one,
        bytes calldata signature,
        UsageStatement calldata other,
        bytes calldata otherSignature
    ) external;

    /// @notice What an operator signs for a statement.
    /// @param statement All of it is signed.
    function statementDigest(UsageStatement calldata statement) external view returns (bytes32);
}
