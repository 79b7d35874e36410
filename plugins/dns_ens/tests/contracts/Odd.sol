// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// A resolver that does what none should, and sends to gateways that a test names; what they say it believes.
contract Odd {
    enum Way {
        GATEWAYS,
        OTHER_SENDER,
        AGAIN_AND_AGAIN,
        ALL_GAS,
        LONG,
        REVERTS,
        RUBBISH,
        OFFSETS
    }

    Way private _way;
    string[] private _urls;

    error OffchainLookup(address sender, string[] urls, bytes callData, bytes4 callbackFunction, bytes extraData);

    function set(Way way, string[] calldata urls) external {
        _way = way;
        delete _urls;
        for (uint256 i; i < urls.length; ++i) _urls.push(urls[i]);
    }

    function supportsInterface(bytes4 id) external pure returns (bool) {
        return id == 0x9061b923 || id == 0x01ffc9a7;
    }

    function resolve(bytes calldata, bytes calldata data) external view returns (bytes memory) {
        if (_way == Way.ALL_GAS) while (true) {}
        if (_way == Way.LONG) return new bytes(1_000_000);
        if (_way == Way.RUBBISH) return hex"ff";
        if (_way == Way.REVERTS) revert("I do not say");
        if (_way == Way.OFFSETS) {
            assembly {
                mstore(0, not(0))
                return(0, 32)
            }
        }
        address sender = _way == Way.OTHER_SENDER ? address(1) : address(this);
        revert OffchainLookup(sender, _urls, data, this.back.selector, data);
    }

    function back(bytes calldata response, bytes calldata data) external view returns (bytes memory) {
        if (_way == Way.AGAIN_AND_AGAIN) {
            revert OffchainLookup(address(this), _urls, data, this.back.selector, data);
        }
        return response;
    }
}
