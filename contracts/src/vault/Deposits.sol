// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {ICreditVault} from "../interfaces/ICreditVault.sol";
import {IPermit2} from "../interfaces/IPermit2.sol";
import {Accounts} from "./Accounts.sol";
import {Pausing} from "./Pausing.sol";

/// @title How tokens become credits.
abstract contract Deposits is Accounts, Pausing {
    using SafeERC20 for IERC20;

    bytes32 private constant RECHARGE_TYPEHASH = keccak256("Recharge(address owner)");
    string private constant WITNESS_TYPE =
        "Recharge witness)Recharge(address owner)TokenPermissions(address token,uint256 amount)";

    /// @notice Uniswap's Permit2; zero where it is not deployed.
    IPermit2 public immutable PERMIT2;

    constructor(IPermit2 permit2) {
        PERMIT2 = permit2;
    }

    /// @inheritdoc ICreditVault
    function deposit(uint256 amount) external nonReentrant whenOpen {
        _deposit(msg.sender, msg.sender, amount);
    }

    /// @inheritdoc ICreditVault
    function depositFor(address owner, uint256 amount) external nonReentrant whenOpen {
        _deposit(msg.sender, owner, amount);
    }

    /// @inheritdoc ICreditVault
    function depositWithPermit(address owner, uint256 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external
        nonReentrant
        whenOpen
    {
        // slither-disable-start reentrancy-benign
        // Whoever saw the permit in the mempool may have sent it first: then the allowance is there already.
        try IERC20Permit(address(TOKEN)).permit(msg.sender, address(this), amount, deadline, v, r, s) {}
            catch {}
        _deposit(msg.sender, owner, amount);
        // slither-disable-end reentrancy-benign
    }

    /// @inheritdoc ICreditVault
    function depositWithPermit2(
        address payer,
        address owner,
        uint256 amount,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external nonReentrant whenOpen {
        if (address(PERMIT2) == address(0)) revert Permit2Unavailable();
        uint256 before = TOKEN.balanceOf(address(this));
        // slither-disable-start reentrancy-benign
        PERMIT2.permitWitnessTransferFrom(
            IPermit2.PermitTransferFrom(IPermit2.TokenPermissions(address(TOKEN), amount), nonce, deadline),
            IPermit2.SignatureTransferDetails(address(this), amount),
            payer,
            keccak256(abi.encode(RECHARGE_TYPEHASH, owner)),
            WITNESS_TYPE,
            signature
        );
        _credit(payer, owner, amount, before);
        // slither-disable-end reentrancy-benign
    }

    function _deposit(address from, address owner, uint256 amount) private {
        uint256 before = TOKEN.balanceOf(address(this));
        // slither-disable-next-line arbitrary-send-erc20
        TOKEN.safeTransferFrom(from, address(this), amount);
        _credit(from, owner, amount, before);
    }

    /// @dev Counts what came, whatever the token says of it.
    function _credit(address from, address owner, uint256 amount, uint256 before) private {
        _checkPayee(owner);
        if (amount == 0) revert ZeroAmount();
        uint256 received = TOKEN.balanceOf(address(this)) - before;
        if (received != amount) revert NotReceived(amount, received);
        uint256 total = totalCredits + amount;
        if (total > type(uint64).max) revert VaultFull(total);
        totalCredits = total;
        _give(owner, amount);
        emit Recharged(owner, from, amount);
    }
}
