// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// What both questions have in common. Neither contract is ever deployed: its code, with the arguments behind it,
/// is the data of an `eth_call` without `to`, and what its constructor returns is the answer. So a name takes one
/// round to the chain, on any endpoint, and none has to be trusted with the address of a helper.
abstract contract Question {
    /// The answer is "code" to the chain, which takes 24,576 bytes at most (EIP-170).
    uint256 internal constant MOST = 20_000;
    /// For what answers with one word; a proxy before it included.
    uint256 internal constant WORD_GAS = 300_000;

    uint8 internal constant NOTHING = 0;
    uint8 internal constant RETURNED = 1;
    uint8 internal constant REVERTED = 2;
    uint8 internal constant TOO_LONG = 3;
    uint8 internal constant NOT_FOUND_OUT = 4;

    /// A view whose answer is at most `MOST` bytes. A fourth of the gas is kept for the rest.
    function _ask(address to, bytes memory data) internal view returns (uint8 outcome, bytes memory result) {
        uint256 gas_ = gasleft() - gasleft() / 4;
        bool ok;
        uint256 size;
        assembly ("memory-safe") {
            ok := staticcall(gas_, to, add(data, 32), mload(data), 0, 0)
            size := returndatasize()
        }
        if (size > MOST) return (TOO_LONG, "");
        result = new bytes(size);
        assembly ("memory-safe") {
            returndatacopy(add(result, 32), 0, size)
        }
        outcome = ok ? RETURNED : REVERTED;
    }

    /// One word; 0 where the call fails or answers with less.
    function _word(address to, bytes memory data) internal view returns (uint256 word) {
        assembly ("memory-safe") {
            let ok := staticcall(WORD_GAS, to, add(data, 32), mload(data), 0, 32)
            if and(ok, gt(returndatasize(), 31)) { word := mload(0) }
        }
    }

    function _answer(bytes memory answer) internal pure {
        assembly ("memory-safe") {
            return(add(answer, 32), mload(answer))
        }
    }
}

/// All that is asked of one name: who has it, and what its resolver says of `contenthash`.
/// EIP-137 (registry), EIP-1577 (contenthash), ENSIP-10 (wildcards), ENSIP-23 (Universal Resolver, of which only
/// `findResolver` is used), the .eth registrar and the NameWrapper.
contract Lookup is Question {
    struct Found {
        uint256 chain;
        uint256 number;
        address owner; // in the registry: the manager, or the wrapper
        address registrant; // in the registrar of the domain above: of names of two labels
        uint256 expires; // there; Unix seconds
        address holder; // in the wrapper, where the name is wrapped
        uint256 ttl; // seconds, as the registry says
        address own; // the resolver by the registry
        uint256 ownAbove; // labels that were left out to find it: 0 where it is the name's own
        address resolver; // that is asked: by the Universal Resolver, where there is one
        uint256 above;
        bool extended;
        uint8 outcome;
        bytes result;
    }

    bytes4 private constant EXTENDED = 0x9061b923; // resolve(bytes,bytes)

    /// `name` in DNS wire format, with one label at least.
    constructor(address registry, address wrapper, address universal, bytes memory name) {
        Found memory found;
        found.chain = block.chainid;
        found.number = block.number;
        (bytes32[] memory nodes, bytes32[] memory labels) = _nodes(name);
        bytes32 node = nodes[0];
        found.owner = _address(registry, abi.encodeWithSignature("owner(bytes32)", node));
        found.ttl = _word(registry, abi.encodeWithSignature("ttl(bytes32)", node));
        _registered(found, registry, wrapper, nodes, labels[0]);
        _walked(found, registry, nodes);
        if (universal != address(0)) _found(found, universal, name, nodes.length);
        if (found.outcome == NOTHING) _resolved(found, name, nodes[0]);
        _answer(abi.encode(found));
    }

    function _registered(
        Found memory found,
        address registry,
        address wrapper,
        bytes32[] memory nodes,
        bytes32 label
    ) private view {
        if (nodes.length == 2) {
            address registrar = _address(registry, abi.encodeWithSignature("owner(bytes32)", nodes[1]));
            found.registrant = _address(registrar, abi.encodeWithSignature("ownerOf(uint256)", uint256(label)));
            found.expires = _word(registrar, abi.encodeWithSignature("nameExpires(uint256)", uint256(label)));
        }
        if (wrapper != address(0) && found.owner == wrapper) {
            found.holder = _address(wrapper, abi.encodeWithSignature("ownerOf(uint256)", uint256(nodes[0])));
        }
    }

    /// ENSIP-10: up to the first that has a resolver.
    function _walked(Found memory found, address registry, bytes32[] memory nodes) private view {
        while (found.ownAbove < nodes.length) {
            found.own = _address(registry, abi.encodeWithSignature("resolver(bytes32)", nodes[found.ownAbove]));
            if (found.own != address(0)) break;
            ++found.ownAbove;
        }
        (found.resolver, found.above) = (found.own, found.ownAbove);
    }

    /// The same by ENS's own way, which knows of registries that are newer.
    function _found(Found memory found, address universal, bytes memory name, uint256 count) private view {
        (uint8 outcome, bytes memory result) =
            _ask(universal, abi.encodeWithSignature("findResolver(bytes)", name));
        found.outcome = NOT_FOUND_OUT;
        if (outcome != RETURNED || result.length < 96) return;
        (uint256 resolver,, uint256 offset) = abi.decode(result, (uint256, uint256, uint256));
        if (resolver >> 160 != 0) return;
        found.resolver = address(uint160(resolver));
        found.above = 0;
        uint256 start;
        while (start < offset && found.above < count) {
            start += uint8(name[start]) + 1;
            ++found.above;
        }
        if (start == offset || resolver == 0) found.outcome = NOTHING;
    }

    function _resolved(Found memory found, bytes memory name, bytes32 node) private view {
        if (found.resolver == address(0)) return;
        bytes memory data = abi.encodeWithSignature("contenthash(bytes32)", node);
        found.extended =
            _word(found.resolver, abi.encodeWithSignature("supportsInterface(bytes4)", EXTENDED)) == 1;
        if (found.extended) {
            data = abi.encodeWithSelector(EXTENDED, name, data);
        } else if (found.above != 0) {
            return;
        }
        (found.outcome, found.result) = _ask(found.resolver, data);
    }

    /// Hashes of the name and of all above it but the root, and of their first labels.
    function _nodes(bytes memory name) private pure returns (bytes32[] memory nodes, bytes32[] memory labels) {
        uint256 count;
        for (uint256 next; name[next] != 0; next += uint8(name[next]) + 1) ++count;
        nodes = new bytes32[](count);
        labels = new bytes32[](count);
        uint256 start;
        for (uint256 i; i < count; ++i) {
            uint256 size = uint8(name[start]);
            bytes32 label;
            assembly ("memory-safe") {
                label := keccak256(add(add(name, 33), start), size)
            }
            labels[i] = label;
            start += size + 1;
        }
        bytes32 node;
        for (uint256 i = count; i > 0; --i) {
            node = keccak256(abi.encodePacked(node, labels[i - 1]));
            nodes[i - 1] = node;
        }
    }

    function _address(address to, bytes memory data) private view returns (address) {
        return address(uint160(_word(to, data)));
    }
}

/// What a view says, or with what it reverts: endpoints tell the latter in many ways, and this one in one.
contract Probe is Question {
    constructor(address to, bytes memory data) {
        (uint8 outcome, bytes memory result) = _ask(to, data);
        _answer(abi.encode(block.chainid, block.number, outcome, result));
    }
}
