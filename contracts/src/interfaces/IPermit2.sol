// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The part of Uniswap's Permit2 (SignatureTransfer) that a deposit uses.
interface IPermit2 {
    struct TokenPermissions {
        address token;
        uint256 amount;
    }

    struct PermitTransferFrom {
        TokenPermissions permitted;
        uint256 nonce;
        uint256 deadline;
    }

    struct SignatureTransferDetails {
        address to;
        uint256 requestedAmount;
    }

    /// @notice Moves tokens of `owner`, who signed the permit, the caller as spender, and a witness.
    /// @param permit The token, the most that may move, an unordered nonce and a deadline (Unix seconds).
    /// @param transferDetails Who receives, and how much.
    /// @param owner Whose tokens move, and whose signature it is.
    /// @param witness The struct hash of what else was signed.
    /// @param witnessTypeString The rest of the EIP-712 type from the witness on.
    /// @param signature By an externally owned account, or as EIP-1271 has it.
    function permitWitnessTransferFrom(
        PermitTransferFrom calldata permit,
        SignatureTransferDetails calldata transferDetails,
        address owner,
        bytes32 witness,
        string calldata witnessTypeString,
        bytes calldata signature
    ) external;
}
