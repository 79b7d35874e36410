// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Labels of sites, by the grammar of the node (decentraspace.records.schema.check_label).
library Labels {
    /// @notice Characters of a label at most: with "--" and a site id it fills one DNS label of 63.
    uint256 internal constant MAX_LENGTH = 45;

    error InvalidLabel(string label);

    /// @notice Reverts unless `label` is 1 to 45 of a-z, 0-9 and hyphens, these inside only and never two in a row.
    /// @param label What is checked.
    function check(string memory label) internal pure {
        bytes memory text = bytes(label);
        uint256 length = text.length;
        if (length == 0 || length > MAX_LENGTH) revert InvalidLabel(label);
        bool afterHyphen = true; // the start is as good as a hyphen: none may follow
        for (uint256 i = 0; i < length; ++i) {
            bytes1 c = text[i];
            bool hyphen = c == "-";
            bool plain = (c >= "a" && c <= "z") || (c >= "0" && c <= "9");
            if (!plain && (!hyphen || afterHyphen)) revert InvalidLabel(label);
            afterHyphen = hyphen;
        }
        if (afterHyphen) revert InvalidLabel(label);
    }

    /// @notice First 80 bits of SHA-256(owner · label).
    /// @param owner Who founds the site.
    /// @param label Of the site.
    function siteId(address owner, string memory label) internal pure returns (bytes10) {
        return bytes10(sha256(abi.encodePacked(owner, label)));
    }
}
