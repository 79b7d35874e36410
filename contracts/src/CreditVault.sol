// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {ICreditVault} from "./interfaces/ICreditVault.sol";
import {IPermit2} from "./interfaces/IPermit2.sol";
import {IPriceFeed} from "./interfaces/IPriceFeed.sol";
import {Deposits} from "./vault/Deposits.sol";
import {NativeDeposits} from "./vault/NativeDeposits.sol";
import {Pausing} from "./vault/Pausing.sol";
import {Settlement} from "./vault/Settlement.sol";

/// @title Credits of site owners and operators, one for each base unit of the token that is held.
/// @notice No upgrades, no fees, and nobody who could move what is another's. The owner, a timelock, may pause
/// deposits and new allocations for a while, and give away tokens that are nobody's credits.
contract CreditVault is NativeDeposits, Settlement {
    using SafeERC20 for IERC20;

    /// @param token Stable coin with six decimals that moves what it is told to.
    /// @param permit2 Uniswap's Permit2, or zero.
    /// @param feed Price of the chain's coin in dollars, or zero: none is taken.
    /// @param maxPriceAge Seconds after which a price is too old.
    /// @param desk Who sells credits for the chain's coin; zero without a feed.
    /// @param spread What the desk keeps, in hundredths of a percent.
    /// @param timelock Owner.
    struct Settings {
        IERC20Metadata token;
        IPermit2 permit2;
        IPriceFeed feed;
        uint256 maxPriceAge;
        address desk;
        uint256 spread;
        address timelock;
    }

    /// @param settings For good: only the owner can change.
    constructor(Settings memory settings)
        Pausing(settings.timelock)
        Deposits(settings.permit2)
        NativeDeposits(settings.desk, settings.feed, settings.maxPriceAge, settings.spread)
    {
        uint8 decimals = settings.token.decimals();
        if (decimals != 6) revert TokenDecimals(decimals);
        TOKEN = settings.token;
    }

    /// @inheritdoc ICreditVault
    function sweep(IERC20 stray, address to) external onlyOwner nonReentrant {
        _checkPayee(to);
        uint256 amount = stray.balanceOf(address(this));
        if (stray == TOKEN) amount -= totalCredits;
        emit Swept(address(stray), to, amount);
        stray.safeTransfer(to, amount);
    }
}
