// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

/// @title To compare with: what Swarm's SWAP does. Each issuer has a chequebook of its own; a beneficiary cashes
/// the newest cheque, which names the total, and is paid that less what it was paid before.
contract Chequebook is EIP712 {
    bytes32 private constant CHEQUE =
        keccak256("Cheque(address chequebook,address beneficiary,uint256 cumulativePayout)");

    IERC20 public immutable TOKEN;
    address public immutable ISSUER;
    mapping(address beneficiary => uint256) public paidOut;
    uint256 public totalPaidOut;

    event ChequeCashed(
        address indexed beneficiary, address indexed recipient, uint256 payout, uint256 cumulativePayout
    );

    constructor(IERC20 token, address issuer) EIP712("Chequebook", "1.0") {
        (TOKEN, ISSUER) = (token, issuer);
    }

    function cash(address recipient, uint256 cumulativePayout, bytes calldata signature) external {
        bytes32 digest = chequeDigest(msg.sender, cumulativePayout);
        require(ECDSA.recoverCalldata(digest, signature) == ISSUER, "not the issuer's");
        uint256 payout = cumulativePayout - paidOut[msg.sender];
        paidOut[msg.sender] = cumulativePayout;
        totalPaidOut += payout;
        emit ChequeCashed(msg.sender, recipient, payout, cumulativePayout);
        require(TOKEN.transfer(recipient, payout), "refused");
    }

    function chequeDigest(address beneficiary, uint256 cumulativePayout) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(CHEQUE, address(this), beneficiary, cumulativePayout)));
    }
}
