// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {ICreditVault} from "../interfaces/ICreditVault.sol";

/// @title Who has how many credits, and how they leave.
/// @dev All credits together fit 64 bits (18 million million dollars), so no sum of parts can overflow, and an
/// account fits one word.
abstract contract Accounts is ICreditVault, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    struct Account {
        uint64 available;
        uint64 withdrawing;
        uint40 withdrawableAt;
    }

    /// @inheritdoc ICreditVault
    uint40 public constant WITHDRAWAL_DELAY = 4 days;

    IERC20 internal immutable TOKEN;

    /// @inheritdoc ICreditVault
    uint256 public totalCredits;
    /// @inheritdoc ICreditVault
    mapping(address owner => mapping(address spender => uint256 amount)) public allowance;

    mapping(address owner => Account) internal _accounts;

    /// @inheritdoc ICreditVault
    function token() external view returns (IERC20) {
        return TOKEN;
    }

    /// @inheritdoc ICreditVault
    function accountOf(address owner) external view returns (AccountView memory view_) {
        Account memory account = _accounts[owner];
        view_.available = account.available;
        view_.withdrawing = account.withdrawing;
        view_.withdrawableAt = account.withdrawableAt;
        view_.reserved = _allocatedBy(owner) + account.withdrawing;
        view_.balance = view_.available + view_.reserved;
    }

    /// @inheritdoc ICreditVault
    function transfer(address to, uint256 amount) external {
        _move(msg.sender, to, amount);
    }

    /// @inheritdoc ICreditVault
    function transferFrom(address from, address to, uint256 amount) external {
        _spendAllowance(from, msg.sender, amount);
        _move(from, to, amount);
    }

    /// @inheritdoc ICreditVault
    function approve(address spender, uint256 amount) external {
        if (spender == address(0)) revert ZeroAddress();
        allowance[msg.sender][spender] = amount;
        emit SpenderApproved(msg.sender, spender, amount);
    }

    /// @inheritdoc ICreditVault
    function requestWithdrawal(uint256 amount) external {
        if (amount == 0) revert ZeroAmount();
        _take(msg.sender, amount);
        Account storage account = _accounts[msg.sender];
        // forge-lint: disable-next-line(unsafe-typecast) -- no more than was available
        account.withdrawing += uint64(amount);
        account.withdrawableAt = uint40(block.timestamp) + WITHDRAWAL_DELAY;
        emit WithdrawalRequested(msg.sender, account.withdrawing, account.withdrawableAt);
    }

    /// @inheritdoc ICreditVault
    function cancelWithdrawal() external {
        uint256 amount = _endRequest(msg.sender);
        _give(msg.sender, amount);
        emit WithdrawalCancelled(msg.sender, amount);
    }

    /// @inheritdoc ICreditVault
    function withdraw(address to) external nonReentrant {
        _checkPayee(to);
        uint40 from = _accounts[msg.sender].withdrawableAt;
        if (block.timestamp < from) revert TooEarly(from);
        uint256 amount = _endRequest(msg.sender);
        totalCredits -= amount;
        emit Withdrawn(msg.sender, to, amount);
        TOKEN.safeTransfer(to, amount);
    }

    /// @dev What is left of the caps of the owner's open allocations.
    function _allocatedBy(address owner) internal view virtual returns (uint256);

    function _give(address owner, uint256 amount) internal {
        // forge-lint: disable-next-line(unsafe-typecast) -- all credits together fit
        _accounts[owner].available += uint64(amount);
    }

    function _take(address owner, uint256 amount) internal {
        uint256 available = _accounts[owner].available;
        if (amount > available) revert InsufficientCredits(available, amount);
        // forge-lint: disable-next-line(unsafe-typecast) -- just compared
        _accounts[owner].available = uint64(available - amount);
    }

    function _move(address from, address to, uint256 amount) internal {
        _checkPayee(to);
        _take(from, amount);
        _give(to, amount);
        emit CreditsMoved(from, to, amount);
    }

    /// @dev The vault itself could never spend what it got.
    function _checkPayee(address payee) internal view {
        if (payee == address(0) || payee == address(this)) revert BadRecipient(payee);
    }

    function _spendAllowance(address owner, address spender, uint256 amount) internal {
        uint256 allowed = allowance[owner][spender];
        if (amount > allowed) revert InsufficientAllowance(allowed, amount);
        if (allowed != type(uint256).max) allowance[owner][spender] = allowed - amount;
    }

    function _endRequest(address owner) private returns (uint256 amount) {
        Account storage account = _accounts[owner];
        amount = account.withdrawing;
        if (amount == 0) revert NothingRequested();
        account.withdrawing = 0;
        account.withdrawableAt = 0;
    }
}
