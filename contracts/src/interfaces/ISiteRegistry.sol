// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Sites and labels as ERC-721 tokens.
/// @notice A site's token id is its site id (80 bits). A label's is its node in the sense of ENS:
/// keccak256(BASE_NODE · keccak256(label)). Labels are rented, sites are for good. Times are Unix seconds.
interface ISiteRegistry {
    event SiteRegistered(bytes10 indexed site, address indexed owner, string label);
    event SiteTransferred(bytes10 indexed site, address indexed from, address indexed to);
    event DelegationRevoked(bytes10 indexed site, address indexed owner, uint64 before);
    event LabelRegistered(
        uint256 indexed node, address indexed owner, string label, uint40 expires, uint256 price
    );
    event LabelRenewed(uint256 indexed node, string label, uint40 expires, uint256 price);
    event LabelTransferred(uint256 indexed node, address indexed from, address indexed to);
    event LabelPointed(uint256 indexed node, bytes10 indexed site);
    event Committed(bytes32 indexed commitment);
    /// @notice As in ENS's resolvers.
    event ContenthashChanged(bytes32 indexed node, bytes hash);

    error ZeroAddress();
    error SiteTaken(bytes10 site);
    error NotSiteOwner(bytes10 site, address caller);
    error RevokesTheFuture(uint64 before);
    error CommitmentPending(bytes32 commitment);
    error CommitmentUnusable(bytes32 commitment);
    error LabelTaken(string label);
    error LabelExpired(uint256 node);
    error LabelUnknown(string label);
    error InvalidDuration(uint256 duration);
    error NotLabelOwner(uint256 node, address caller);
    error ContenthashTooLong(uint256 length);

    /// @notice Founds a site of the caller on chain, from where its ownership may move.
    /// @param label Of the site; checked.
    /// @return site First 80 bits of SHA-256(caller · label).
    function registerSite(string calldata label) external returns (bytes10 site);

    /// @notice The first 80 bits of SHA-256(founder · label).
    /// @param founder Who founded the site, or would.
    /// @param label Of the site; checked.
    function siteIdOf(address founder, string calldata label) external pure returns (bytes10);

    /// @notice Whose the site is; zero where it was never registered: then it is its founder's.
    /// @param site Its id.
    function siteOwner(bytes10 site) external view returns (address);

    /// @notice When the site last changed hands; 0 if never.
    /// @param site Its id.
    function transferredAt(bytes10 site) external view returns (uint64);

    /// @notice Delegations for this site that were issued before this are void. For site 0: all of `owner`.
    /// @param site Its id, or 0.
    /// @param owner Whose delegations.
    function revokedBefore(bytes10 site, address owner) external view returns (uint64);

    /// @notice Voids what the caller delegated before `before`: for one site that is its own, or, with site 0, for
    /// all its sites.
    /// @param site Its id, or 0.
    /// @param before Not in the future; it only ever grows.
    function revokeDelegations(bytes10 site, uint64 before) external;

    /// @notice Credits for one label for `duration` seconds. Short ones cost more: 64 times the price of five
    /// characters and more for one or two, 16 times for three, 4 times for four.
    /// @param label Checked.
    /// @param duration Seconds.
    function priceOf(string calldata label, uint256 duration) external view returns (uint256);

    /// @notice What hides a label until it is registered.
    /// @param label Which.
    /// @param owner Whose it will be.
    /// @param secret Unguessable.
    function commitmentOf(string calldata label, address owner, bytes32 secret)
        external
        view
        returns (bytes32);

    /// @notice Announces a registration, without telling which.
    /// @param commitment Of `commitmentOf`.
    function commit(bytes32 commitment) external;

    /// @notice Registers a label that was committed to between a minute and a day ago. The caller pays, from the
    /// credits that it approved the registry to move in the vault.
    /// @param label Checked; free, or its grace period over.
    /// @param owner As committed.
    /// @param duration 28 days to 10 years, in seconds.
    /// @param secret As committed.
    /// @return node The token id.
    function register(string calldata label, address owner, uint256 duration, bytes32 secret)
        external
        returns (uint256 node);

    /// @notice Extends a label, also during the grace period of 90 days. Anybody may pay.
    /// @param label Which.
    /// @param duration Seconds added; it may not expire later than 10 years from now.
    function renew(string calldata label, uint256 duration) external;

    /// @notice Whether `register` would take the label.
    /// @param label Checked.
    function available(string calldata label) external view returns (bool);

    /// @notice When the label expires; 0 if it was never registered.
    /// @param label Which.
    function expiresOf(string calldata label) external view returns (uint40);

    /// @notice Whose the label is; zero when it is nobody's or has expired.
    /// @param label Which.
    function ownerOfLabel(string calldata label) external view returns (address);

    /// @notice The token id, and node in the sense of ENS, of a label.
    /// @param label Which.
    function nodeOf(string calldata label) external view returns (bytes32);

    /// @notice The site that is shown under the label; zero when none was set or it has expired.
    /// @param label Which.
    function siteOfLabel(string calldata label) external view returns (bytes10);

    /// @notice Shows a site under a label of the caller.
    /// @param label Which.
    /// @param site Its id; zero for none.
    function setSite(string calldata label, bytes10 site) external;

    /// @notice What an ENS resolver says of the label (EIP-1577); empty when none was set or it has expired.
    /// @param label Which.
    function contenthashOfLabel(string calldata label) external view returns (bytes memory);

    /// @notice The same, by node: an ENS resolver's read.
    /// @param node Of `nodeOf`.
    function contenthash(bytes32 node) external view returns (bytes memory);

    /// @notice The label's owner, by node: an ENS resolver's read.
    /// @param node Of `nodeOf`.
    function addr(bytes32 node) external view returns (address payable);

    /// @notice Answers `addr(bytes32)` and `contenthash(bytes32)` for LABEL.BASE (ENSIP-10).
    /// @param name In DNS wire format; its first label counts.
    /// @param data The call; its node is ignored.
    function resolve(bytes calldata name, bytes calldata data) external view returns (bytes memory);

    /// @notice Sets what an ENS resolver says of a label of the caller.
    /// @param label Which.
    /// @param hash EIP-1577, 128 bytes at most; empty for none.
    function setContenthash(string calldata label, bytes calldata hash) external;
}
