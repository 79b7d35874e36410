// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {IPermit2} from "../../src/interfaces/IPermit2.sol";

/// @dev What the canonical Permit2 promises of permitWitnessTransferFrom: its EIP-712 domain without a version,
/// the caller as spender, unordered nonces, a deadline. The canonical one wants solc 0.8.17.
contract Permit2 is IPermit2 {
    bytes32 private constant DOMAIN =
        keccak256("EIP712Domain(string name,uint256 chainId,address verifyingContract)");
    bytes32 private constant PERMISSIONS = keccak256("TokenPermissions(address token,uint256 amount)");
    string private constant STUB =
        "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,";

    mapping(address => mapping(uint256 => bool)) public used;

    error SignatureExpired(uint256 deadline);
    error InvalidNonce();
    error InvalidSigner();
    error InvalidAmount(uint256 most);

    function permitWitnessTransferFrom(
        PermitTransferFrom calldata permit,
        SignatureTransferDetails calldata details,
        address owner,
        bytes32 witness,
        string calldata witnessType,
        bytes calldata signature
    ) external {
        if (block.timestamp > permit.deadline) revert SignatureExpired(permit.deadline);
        if (details.requestedAmount > permit.permitted.amount) revert InvalidAmount(permit.permitted.amount);
        if (used[owner][permit.nonce]) revert InvalidNonce();
        used[owner][permit.nonce] = true;
        bytes32 digest = digestOf(permit, msg.sender, witness, witnessType);
        (address signer,,) = ECDSA.tryRecoverCalldata(digest, signature);
        if (signer != owner) revert InvalidSigner();
        require(
            IERC20(permit.permitted.token).transferFrom(owner, details.to, details.requestedAmount), "refused"
        );
    }

    function digestOf(
        PermitTransferFrom calldata permit,
        address spender,
        bytes32 witness,
        string calldata witnessType
    ) public view returns (bytes32) {
        bytes32 domain = keccak256(abi.encode(DOMAIN, keccak256("Permit2"), block.chainid, address(this)));
        bytes32 permissions =
            keccak256(abi.encode(PERMISSIONS, permit.permitted.token, permit.permitted.amount));
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256(abi.encodePacked(STUB, witnessType)),
                permissions,
                spender,
                permit.nonce,
                permit.deadline,
                witness
            )
        );
        return keccak256(abi.encodePacked("\x19\x01", domain, structHash));
    }
}
