// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IPriceFeed} from "../interfaces/IPriceFeed.sol";

/// @title A price that anybody sets, for development chains.
contract DevFeed is IPriceFeed {
    int256 private _answer;
    uint256 private _updatedAt;

    /// @param answer Price with eight decimals.
    constructor(int256 answer) {
        set(answer, block.timestamp);
    }

    /// @inheritdoc IPriceFeed
    function latestRoundData()
        external
        view
        returns (uint80 roundId, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound)
    {
        return (1, _answer, _updatedAt, _updatedAt, 1);
    }

    /// @inheritdoc IPriceFeed
    function decimals() external pure returns (uint8) {
        return 8;
    }

    /// @notice Sets the price.
    /// @param answer With eight decimals.
    /// @param updatedAt When it was computed, in Unix seconds.
    function set(int256 answer, uint256 updatedAt) public {
        _answer = answer;
        _updatedAt = updatedAt;
    }
}
