// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ICreditVault} from "./interfaces/ICreditVault.sol";
import {ISiteRegistry} from "./interfaces/ISiteRegistry.sol";
import {Labels} from "./libraries/Labels.sol";
import {LabelTokens} from "./registry/LabelTokens.sol";

/// @title Whose sites and labels are, in one contract that nobody owns.
contract SiteRegistry is LabelTokens {
    mapping(bytes10 site => uint64) private _transferredAt;
    mapping(bytes10 site => mapping(address owner => uint64)) private _revokedBefore;

    /// @param vault Whose credits pay.
    /// @param treasury Gets prices and fees.
    /// @param yearPrice Credits for a label of five characters or more for a year.
    /// @param transferFee Credits, from whom a token moves away.
    /// @param baseNode ENS node (namehash) under which labels are names.
    constructor(ICreditVault vault, address treasury, uint96 yearPrice, uint96 transferFee, bytes32 baseNode)
        LabelTokens(vault, treasury, yearPrice, transferFee, baseNode)
    {}

    /// @inheritdoc ISiteRegistry
    function registerSite(string calldata label) external returns (bytes10 site) {
        site = siteIdOf(msg.sender, label);
        if (_ownerOf(_tokenOf(site)) != address(0)) revert SiteTaken(site);
        emit SiteRegistered(site, msg.sender, label);
        _mint(msg.sender, _tokenOf(site));
    }

    /// @inheritdoc ISiteRegistry
    function revokeDelegations(bytes10 site, uint64 before) external {
        if (site != 0 && siteOwner(site) != msg.sender) revert NotSiteOwner(site, msg.sender);
        // Or a seller could spoil what the buyer will delegate.
        if (before > block.timestamp) revert RevokesTheFuture(before);
        _revoke(site, msg.sender, before);
    }

    /// @inheritdoc ISiteRegistry
    function transferredAt(bytes10 site) external view returns (uint64) {
        return _transferredAt[site];
    }

    /// @inheritdoc ISiteRegistry
    function revokedBefore(bytes10 site, address owner) external view returns (uint64) {
        return _revokedBefore[site][owner];
    }

    /// @inheritdoc ISiteRegistry
    function siteOwner(bytes10 site) public view returns (address) {
        return _ownerOf(_tokenOf(site));
    }

    /// @inheritdoc ISiteRegistry
    function siteIdOf(address founder, string calldata label) public pure returns (bytes10) {
        Labels.check(label);
        return Labels.siteId(founder, label);
    }

    /// @dev The fee is paid by whom the token leaves, within what it approved the registry to move; what it had
    /// delegated for a site ends with the block.
    function _update(address to, uint256 tokenId, address auth) internal override returns (address from) {
        from = super._update(to, tokenId, auth);
        if (from == address(0) || to == address(0)) return from;
        if (_isSite(tokenId)) {
            // forge-lint: disable-next-line(unsafe-typecast) -- a site's token has 80 bits
            bytes10 site = bytes10(uint80(tokenId));
            _transferredAt[site] = uint64(block.timestamp);
            _revoke(site, from, uint64(block.timestamp));
            emit SiteTransferred(site, from, to);
        } else {
            emit LabelTransferred(tokenId, from, to);
        }
        _collect(from, TRANSFER_FEE);
    }

    function _revoke(bytes10 site, address owner, uint64 before) private {
        if (before > _revokedBefore[site][owner]) _revokedBefore[site][owner] = before;
        emit DelegationRevoked(site, owner, _revokedBefore[site][owner]);
    }
}
