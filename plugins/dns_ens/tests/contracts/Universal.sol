// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// Stands in for ENS's Universal Resolver, which is in no package that could be installed: `findResolver` of ENSIP-23,
/// with what a test says is found, by the hash of the name in wire format.
contract Universal {
    struct Place {
        address resolver;
        uint256 offset;
    }

    mapping(bytes32 => Place) private _places;
    bool private _broken;

    function put(bytes calldata name, address resolver, uint256 offset) external {
        _places[keccak256(name)] = Place(resolver, offset);
    }

    function breakDown() external {
        _broken = true;
    }

    function findResolver(bytes calldata name) external view returns (address, bytes32, uint256) {
        require(!_broken, "broken");
        Place memory place = _places[keccak256(name)];
        return (place.resolver, 0, place.offset);
    }
}
