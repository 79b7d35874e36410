// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

interface Registry {
    function setResolver(bytes32 node, address resolver) external;
}

interface Registrar {
    function transferFrom(address from, address to, uint256 id) external;
    function reclaim(uint256 id, address owner) external;
    function nameExpires(uint256 id) external view returns (uint256);
}

/// Stands in for ENS's NameWrapper, which is in no package that could be installed: what its documentation says of a
/// wrapped .eth name (https://docs.ens.domains/wrapper/contracts), and no more. The registry's owner of the name and
/// the registrar's is the wrapper; the wrapper's is whoever wrapped it, until the name's grace period is over.
contract Wrapper {
    Registry private immutable REGISTRY;
    Registrar private immutable REGISTRAR;
    bytes32 private immutable PARENT;
    mapping(uint256 => address) private _owners;
    mapping(uint256 => uint256) private _expiry;

    error Unauthorised(bytes32 node, address caller);

    constructor(address registry, address registrar, bytes32 parent) {
        (REGISTRY, REGISTRAR, PARENT) = (Registry(registry), Registrar(registrar), parent);
    }

    function wrapETH2LD(string calldata label, address owner) external {
        uint256 id = uint256(keccak256(bytes(label)));
        REGISTRAR.transferFrom(msg.sender, address(this), id);
        REGISTRAR.reclaim(id, address(this));
        uint256 node = uint256(keccak256(abi.encodePacked(PARENT, id)));
        _owners[node] = owner;
        _expiry[node] = REGISTRAR.nameExpires(id) + 90 days;
    }

    function ownerOf(uint256 id) public view returns (address) {
        return _expiry[id] < block.timestamp ? address(0) : _owners[id];
    }

    function setResolver(bytes32 node, address resolver) external {
        if (ownerOf(uint256(node)) != msg.sender) revert Unauthorised(node, msg.sender);
        REGISTRY.setResolver(node, resolver);
    }
}
