// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ICreditVault} from "../interfaces/ICreditVault.sol";
import {Allocations} from "./Allocations.sol";

/// @title How operators are paid out of what owners granted.
/// @dev Nothing here calls another contract, so nobody can be in the way of it.
abstract contract Settlement is Allocations {
    /// @inheritdoc ICreditVault
    function settle(Charge[] calldata charges, bytes32 root) external {
        uint256 total = 0;
        uint256 settled = 0;
        uint256 count = charges.length;
        for (uint256 i = 0; i < count; ++i) {
            uint256 amount = _charge(charges[i]);
            if (amount == 0) continue;
            total += amount;
            ++settled;
        }
        _give(msg.sender, total);
        emit BatchSettled(msg.sender, root, settled, total);
    }

    /// @inheritdoc ICreditVault
    function settleStreams(bytes32[] calldata allocations) external {
        uint256 count = allocations.length;
        for (uint256 i = 0; i < count; ++i) {
            Grant storage grant = _grants[allocations[i]];
            Meter memory meter = grant.meter;
            if (meter.status == Status.OPEN && _payStream(allocations[i], grant, meter)) grant.meter = meter;
        }
    }

    /// @inheritdoc ICreditVault
    function release(bytes32[] calldata allocations) external {
        uint256 count = allocations.length;
        for (uint256 i = 0; i < count; ++i) {
            Grant storage grant = _grants[allocations[i]];
            Meter memory meter = grant.meter;
            if (meter.status != Status.OPEN || !_over(meter)) continue;
            _payStream(allocations[i], grant, meter);
            _close(allocations[i], grant, meter);
        }
    }

    /// @inheritdoc ICreditVault
    function relinquish(bytes32[] calldata allocations) external {
        uint256 count = allocations.length;
        for (uint256 i = 0; i < count; ++i) {
            Grant storage grant = _grants[allocations[i]];
            Meter memory meter = grant.meter;
            if (meter.status != Status.OPEN || grant.operator != msg.sender) continue;
            _payStream(allocations[i], grant, meter);
            _close(allocations[i], grant, meter);
        }
    }

    /// @dev The id contains the caller, so that finding the allocation proves that it is the caller's.
    function _charge(Charge calldata charge) private returns (uint256) {
        bytes32 allocation = allocationId(charge.owner, msg.sender, charge.id);
        Meter storage stored = _grants[allocation].meter;
        Meter memory meter = stored;
        if (meter.status != Status.OPEN || _over(meter)) {
            return _skip(allocation, meter.status == Status.NONE ? SkipReason.UNKNOWN : SkipReason.CLOSED);
        }
        uint256 cumulative = charge.cumulative;
        if (cumulative <= meter.metered) return _skip(allocation, SkipReason.NOTHING_DUE);
        uint256 amount = cumulative - meter.metered;
        uint256 left = _left(meter);
        if (amount > left) return _skip(allocation, SkipReason.OVER_CAP);
        // forge-lint: disable-next-line(unsafe-typecast) -- within the cap
        stored.metered = uint64(cumulative);
        emit Settled(msg.sender, charge.owner, allocation, amount, cumulative);
        if (amount == left) emit CreditDepleted(charge.owner, msg.sender, allocation);
        return amount;
    }

    /// @dev Changes `meter`, and leaves it to the caller to store it.
    function _payStream(bytes32 allocation, Grant storage grant, Meter memory meter) private returns (bool) {
        uint64 due = _streamDue(grant, meter);
        if (due == 0) return false;
        meter.streamed += due;
        (address owner, address operator) = (grant.owner, grant.operator);
        _give(operator, due);
        emit StreamSettled(operator, owner, allocation, due, meter.streamed);
        if (_left(meter) == 0) emit CreditDepleted(owner, operator, allocation);
        return true;
    }

    function _skip(bytes32 allocation, SkipReason reason) private returns (uint256) {
        emit ChargeSkipped(msg.sender, allocation, reason);
        return 0;
    }

    function _over(Meter memory meter) private view returns (bool) {
        return block.timestamp > uint256(meter.expires) + SETTLEMENT_WINDOW;
    }
}
