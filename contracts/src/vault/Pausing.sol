// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";

import {ICreditVault} from "../interfaces/ICreditVault.sol";

/// @title A pause of what brings credits in, by a timelock, that ends by itself.
abstract contract Pausing is ICreditVault, Ownable2Step {
    /// @notice Seconds that a pause lasts at most.
    uint40 public constant MAX_PAUSE = 7 days;
    /// @notice Seconds between the end of a pause and the earliest next one.
    uint40 public constant PAUSE_GAP = 14 days;

    /// @inheritdoc ICreditVault
    uint40 public pausedUntil;
    uint40 private _pausableFrom;

    modifier whenOpen() {
        _checkOpen();
        _;
    }

    constructor(address timelock) Ownable(timelock) {}

    /// @inheritdoc ICreditVault
    function pause() external onlyOwner {
        if (block.timestamp < _pausableFrom) revert TooEarly(_pausableFrom);
        pausedUntil = uint40(block.timestamp) + MAX_PAUSE;
        _pausableFrom = pausedUntil + PAUSE_GAP;
        emit PausedUntil(pausedUntil);
    }

    /// @inheritdoc ICreditVault
    function unpause() external onlyOwner {
        pausedUntil = uint40(block.timestamp);
        emit PausedUntil(pausedUntil);
    }

    function _checkOpen() private view {
        if (block.timestamp < pausedUntil) revert DepositsPaused(pausedUntil);
    }
}
