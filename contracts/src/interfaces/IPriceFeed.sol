// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The part of Chainlink's AggregatorV3Interface that a price is read with.
interface IPriceFeed {
    /// @notice Decimals of the answers.
    function decimals() external view returns (uint8);

    /// @notice The price as of the newest round.
    /// @return roundId Number of the round.
    /// @return answer Price of one whole unit, in `decimals()` decimals.
    /// @return startedAt When the round began, in Unix seconds.
    /// @return updatedAt When the answer was computed, in Unix seconds; 0 while there is none.
    /// @return answeredInRound Of no meaning any more.
    function latestRoundData()
        external
        view
        returns (uint80 roundId, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound);
}
