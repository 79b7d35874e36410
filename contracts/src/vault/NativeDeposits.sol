// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {ICreditVault} from "../interfaces/ICreditVault.sol";
import {IPriceFeed} from "../interfaces/IPriceFeed.sol";
import {Deposits} from "./Deposits.sol";

/// @title Credits for the chain's own coin, out of a desk's credits.
/// @dev Every credit stays backed by a token: the desk sells what it has and approved, and claims the coin when
/// it likes. No coin is sent while somebody buys, so nobody's refusal to take it can be in the way.
abstract contract NativeDeposits is Deposits {
    uint256 private constant BASIS_POINTS = 10_000;

    /// @notice Sells credits; fetches the coin.
    address public immutable DESK;
    /// @notice Price of one whole coin in dollars; zero where coins are not taken.
    IPriceFeed public immutable FEED;
    /// @notice Seconds after which a price is too old.
    uint256 public immutable MAX_PRICE_AGE;
    /// @notice What the desk keeps, in hundredths of a percent.
    uint256 public immutable SPREAD;

    uint256 private immutable UNIT;

    constructor(address desk, IPriceFeed feed, uint256 maxPriceAge, uint256 spread) {
        if (address(feed) != address(0)) {
            if (desk == address(0)) revert ZeroAddress();
            if (spread >= BASIS_POINTS) revert BelowBound(0, spread);
            // 18 decimals of the coin and the feed's, less the six of a credit.
            UNIT = 10 ** (12 + uint256(feed.decimals()));
        }
        DESK = desk;
        FEED = feed;
        MAX_PRICE_AGE = maxPriceAge;
        SPREAD = spread;
    }

    /// @inheritdoc ICreditVault
    function depositNative(address owner, uint256 minCredits)
        external
        payable
        nonReentrant
        whenOpen
        returns (uint256 credits)
    {
        _checkPayee(owner);
        credits = quoteNative(msg.value);
        if (credits == 0) revert ZeroAmount();
        if (credits < minCredits) revert BelowBound(credits, minCredits);
        _spendAllowance(DESK, address(this), credits);
        _take(DESK, credits);
        _give(owner, credits);
        emit NativeSold(owner, msg.value, credits);
        emit Recharged(owner, DESK, credits);
    }

    /// @inheritdoc ICreditVault
    function claimNative(address payable to) external nonReentrant {
        if (msg.sender != DESK) revert NotDesk(msg.sender);
        if (to == address(0)) revert BadRecipient(to);
        // slither-disable-next-line low-level-calls
        (bool taken,) = to.call{value: address(this).balance}("");
        if (!taken) revert NativeNotTaken(to);
    }

    /// @inheritdoc ICreditVault
    function quoteNative(uint256 value) public view returns (uint256 credits) {
        if (address(FEED) == address(0)) revert NativeUnavailable();
        // slither-disable-next-line unused-return
        (, int256 answer,, uint256 updatedAt,) = FEED.latestRoundData();
        if (answer <= 0 || updatedAt == 0 || updatedAt > block.timestamp) {
            revert PriceUnusable(answer, updatedAt);
        }
        if (block.timestamp - updatedAt > MAX_PRICE_AGE) revert PriceUnusable(answer, updatedAt);
        // forge-lint: disable-next-line(unsafe-typecast) -- positive
        credits = Math.mulDiv(value, uint256(answer), UNIT);
        credits = Math.mulDiv(credits, BASIS_POINTS - SPREAD, BASIS_POINTS);
    }
}
