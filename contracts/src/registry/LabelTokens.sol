// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {ICreditVault} from "../interfaces/ICreditVault.sol";
import {ISiteRegistry} from "../interfaces/ISiteRegistry.sol";
import {Labels} from "../libraries/Labels.sol";

/// @title Labels: rented, pointed at something, and read as ENS names.
abstract contract LabelTokens is ISiteRegistry, ERC721 {
    struct Label {
        uint40 expires;
        bytes10 site;
    }

    /// @notice Seconds between commitment and registration, at least.
    uint256 public constant MIN_COMMITMENT_AGE = 1 minutes;
    /// @notice Seconds between commitment and registration, at most.
    uint256 public constant MAX_COMMITMENT_AGE = 1 days;
    /// @notice Seconds after expiry during which a label is nobody's, and may only be renewed.
    uint40 public constant GRACE_PERIOD = 90 days;
    /// @notice Seconds that a label is registered for, at least.
    uint256 public constant MIN_DURATION = 28 days;
    /// @notice Seconds from now that a label expires, at most.
    uint256 public constant MAX_DURATION = 3652 days;

    uint256 private constant MAX_CONTENTHASH = 128;

    /// @notice Whose credits pay.
    ICreditVault public immutable VAULT;
    /// @notice Gets prices and fees.
    address public immutable TREASURY;
    /// @notice Credits for a label of five characters or more for a year.
    uint256 public immutable YEAR_PRICE;
    /// @notice Credits for a transfer, from whom the token moves away.
    uint256 public immutable TRANSFER_FEE;
    /// @notice ENS node under which labels are names.
    bytes32 public immutable BASE_NODE;

    mapping(bytes32 commitment => uint256 timestamp) private _commitments;
    mapping(uint256 node => Label) private _labels;
    mapping(uint256 node => bytes) private _contenthashes;

    constructor(ICreditVault vault, address treasury, uint96 yearPrice, uint96 transferFee, bytes32 baseNode)
        ERC721("DecentraSpace", "SPACE")
    {
        if (address(vault) == address(0) || treasury == address(0)) revert ZeroAddress();
        (VAULT, TREASURY, BASE_NODE) = (vault, treasury, baseNode);
        (YEAR_PRICE, TRANSFER_FEE) = (yearPrice, transferFee);
    }

    /// @inheritdoc ISiteRegistry
    function commit(bytes32 commitment) external {
        // Committing again would let others keep a commitment young for ever.
        uint256 committed = _commitments[commitment];
        if (committed != 0 && block.timestamp <= committed + MAX_COMMITMENT_AGE) {
            revert CommitmentPending(commitment);
        }
        _commitments[commitment] = block.timestamp;
        emit Committed(commitment);
    }

    /// @inheritdoc ISiteRegistry
    function register(string calldata label, address owner, uint256 duration, bytes32 secret)
        external
        returns (uint256 node)
    {
        bytes32 commitment = commitmentOf(label, owner, secret);
        uint256 committed = _commitments[commitment];
        if (
            committed == 0 || block.timestamp < committed + MIN_COMMITMENT_AGE
                || block.timestamp > committed + MAX_COMMITMENT_AGE
        ) {
            revert CommitmentUnusable(commitment);
        }
        if (duration < MIN_DURATION || duration > MAX_DURATION) revert InvalidDuration(duration);
        if (!available(label)) revert LabelTaken(label);
        delete _commitments[commitment];
        node = uint256(nodeOf(label));
        if (_ownerOf(node) != address(0)) {
            // What the last owner left must not speak for the next one.
            delete _contenthashes[node];
            _burn(node);
        }
        uint256 price = priceOf(label, duration);
        // forge-lint: disable-next-line(unsafe-typecast) -- ten years at most
        uint40 expires = uint40(block.timestamp + duration);
        _labels[node] = Label(expires, 0);
        emit LabelRegistered(node, owner, label, expires, price);
        _mint(owner, node);
        _collect(msg.sender, price);
    }

    /// @inheritdoc ISiteRegistry
    function renew(string calldata label, uint256 duration) external {
        uint256 node = uint256(nodeOf(label));
        uint40 expires = _labels[node].expires;
        if (expires == 0 || block.timestamp > expires + GRACE_PERIOD) revert LabelUnknown(label);
        if (duration == 0 || duration > MAX_DURATION || expires + duration > block.timestamp + MAX_DURATION) {
            revert InvalidDuration(duration);
        }
        uint256 price = priceOf(label, duration);
        // forge-lint: disable-next-line(unsafe-typecast) -- ten years at most
        expires += uint40(duration);
        _labels[node].expires = expires;
        emit LabelRenewed(node, label, expires, price);
        _collect(msg.sender, price);
    }

    /// @inheritdoc ISiteRegistry
    function setSite(string calldata label, bytes10 site) external {
        uint256 node = _authorised(label);
        _labels[node].site = site;
        emit LabelPointed(node, site);
    }

    /// @inheritdoc ISiteRegistry
    function setContenthash(string calldata label, bytes calldata hash) external {
        if (hash.length > MAX_CONTENTHASH) revert ContenthashTooLong(hash.length);
        uint256 node = _authorised(label);
        _contenthashes[node] = hash;
        emit ContenthashChanged(bytes32(node), hash);
    }

    /// @inheritdoc ISiteRegistry
    function expiresOf(string calldata label) external view returns (uint40) {
        return _labels[uint256(nodeOf(label))].expires;
    }

    /// @inheritdoc ISiteRegistry
    function ownerOfLabel(string calldata label) external view returns (address) {
        return addr(nodeOf(label));
    }

    /// @inheritdoc ISiteRegistry
    function siteOfLabel(string calldata label) external view returns (bytes10) {
        uint256 node = uint256(nodeOf(label));
        return _expired(node) ? bytes10(0) : _labels[node].site;
    }

    /// @inheritdoc ISiteRegistry
    function contenthashOfLabel(string calldata label) external view returns (bytes memory) {
        return contenthash(nodeOf(label));
    }

    /// @inheritdoc ISiteRegistry
    function resolve(bytes calldata name, bytes calldata data) external view returns (bytes memory) {
        bytes32 node = 0;
        if (name.length > 1 && uint8(name[0]) < name.length) {
            node = _node(keccak256(name[1:1 + uint8(name[0])]));
        }
        // forge-lint: disable-next-line(unsafe-typecast) -- the selector alone is wanted
        bytes4 selector = bytes4(data);
        if (selector == bytes4(keccak256("contenthash(bytes32)"))) return abi.encode(contenthash(node));
        if (selector == bytes4(keccak256("addr(bytes32)"))) return abi.encode(addr(node));
        return "";
    }

    /// @inheritdoc ISiteRegistry
    function available(string calldata label) public view returns (bool) {
        Labels.check(label);
        uint40 expires = _labels[uint256(nodeOf(label))].expires;
        return expires == 0 || block.timestamp > expires + GRACE_PERIOD;
    }

    /// @inheritdoc ISiteRegistry
    function priceOf(string calldata label, uint256 duration) public view returns (uint256) {
        Labels.check(label);
        uint256 length = bytes(label).length;
        uint256 factor = length < 3 ? 64 : length == 3 ? 16 : length == 4 ? 4 : 1;
        return Math.mulDiv(YEAR_PRICE * factor, duration, 365 days, Math.Rounding.Ceil);
    }

    /// @inheritdoc ISiteRegistry
    function commitmentOf(string calldata label, address owner, bytes32 secret)
        public
        view
        returns (bytes32)
    {
        return keccak256(abi.encode(block.chainid, address(this), label, owner, secret));
    }

    /// @inheritdoc ISiteRegistry
    function nodeOf(string calldata label) public view returns (bytes32) {
        return _node(keccak256(bytes(label)));
    }

    /// @inheritdoc ISiteRegistry
    function contenthash(bytes32 node) public view returns (bytes memory) {
        return _expired(uint256(node)) ? bytes("") : _contenthashes[uint256(node)];
    }

    /// @inheritdoc ISiteRegistry
    function addr(bytes32 node) public view returns (address payable) {
        uint256 tokenId = uint256(node);
        // A site's token is no name.
        return payable(_isSite(tokenId) || _expired(tokenId) ? address(0) : _ownerOf(tokenId));
    }

    /// @notice Whose the token is; reverts for labels that have expired.
    /// @param tokenId A site id, or the node of a label.
    function ownerOf(uint256 tokenId) public view override returns (address) {
        _checkLive(tokenId);
        return super.ownerOf(tokenId);
    }

    /// @inheritdoc ERC721
    function supportsInterface(bytes4 interfaceId) public view override returns (bool) {
        return interfaceId == 0x3b3b57de // addr(bytes32)
            || interfaceId == 0xbc1c58d1 // contenthash(bytes32)
            || interfaceId == 0x9061b923 // resolve(bytes,bytes)
            || super.supportsInterface(interfaceId);
    }

    /// @dev An expired label moves no more; it can be burnt.
    function _update(address to, uint256 tokenId, address auth)
        internal
        virtual
        override
        returns (address from)
    {
        from = super._update(to, tokenId, auth);
        if (from != address(0) && to != address(0)) _checkLive(tokenId);
    }

    function _collect(address payer, uint256 amount) internal {
        if (amount != 0) VAULT.transferFrom(payer, TREASURY, amount);
    }

    function _isSite(uint256 tokenId) internal pure returns (bool) {
        return tokenId <= type(uint80).max;
    }

    function _tokenOf(bytes10 site) internal pure returns (uint256) {
        return uint80(site);
    }

    function _authorised(string calldata label) private view returns (uint256 node) {
        node = uint256(nodeOf(label));
        if (!_isAuthorized(ownerOf(node), msg.sender, node)) revert NotLabelOwner(node, msg.sender);
    }

    function _checkLive(uint256 tokenId) private view {
        if (!_isSite(tokenId) && _labels[tokenId].expires != 0 && _expired(tokenId)) {
            revert LabelExpired(tokenId);
        }
    }

    function _expired(uint256 node) private view returns (bool) {
        return block.timestamp >= _labels[node].expires;
    }

    function _node(bytes32 labelHash) private view returns (bytes32) {
        return keccak256(abi.encodePacked(BASE_NODE, labelHash));
    }
}
