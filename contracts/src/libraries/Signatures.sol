// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";

/// @title Signatures by a key or by a contract.
library Signatures {
    /// @notice Whether `signer` signed `digest`: by its key, or as its code has it (EIP-1271). An account may have
    /// both (EIP-7702); then either is enough.
    /// @param signer Whose signature it should be.
    /// @param digest What was signed.
    /// @param signature Of 65 bytes with a low s, or what the contract takes.
    function isValid(address signer, bytes32 digest, bytes calldata signature) internal view returns (bool) {
        // slither-disable-next-line unused-return
        (address recovered, ECDSA.RecoverError failure,) = ECDSA.tryRecoverCalldata(digest, signature);
        if (failure == ECDSA.RecoverError.NoError && recovered == signer) return true;
        return SignatureChecker.isValidERC1271SignatureNowCalldata(signer, digest, signature);
    }
}
