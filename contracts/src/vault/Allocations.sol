// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {ICreditVault} from "../interfaces/ICreditVault.sol";
import {Signatures} from "../libraries/Signatures.sol";
import {Accounts} from "./Accounts.sol";
import {Pausing} from "./Pausing.sol";

/// @title What owners grant to operators, and how it ends.
abstract contract Allocations is Accounts, Pausing, EIP712 {
    /// @dev All that a charge changes and depends on, in one word.
    struct Meter {
        uint64 cap;
        uint64 metered;
        uint64 streamed;
        uint40 expires;
        Status status;
    }

    struct Grant {
        Meter meter;
        address owner;
        uint40 start;
        uint8 place; // in the owner's list of open ones
        address operator;
        uint64 rate;
        uint256 id;
    }

    /// @inheritdoc ICreditVault
    uint40 public constant SETTLEMENT_WINDOW = 3 days;
    /// @inheritdoc ICreditVault
    uint40 public constant END_NOTICE = 1 days;
    /// @inheritdoc ICreditVault
    uint256 public constant MAX_OPEN = 64;

    bytes32 private constant ALLOCATION_TYPEHASH = keccak256(
        "Allocation(address owner,address operator,uint256 id,uint96 cap,uint96 rate,uint40 start,uint40 expires)"
    );

    mapping(bytes32 allocation => Grant) internal _grants;
    mapping(address owner => bytes32[] allocations) private _open;

    constructor() EIP712("DecentraSpace CreditVault", "1") {}

    /// @inheritdoc ICreditVault
    function allocate(address operator, uint256 id, uint96 cap, uint96 rate, uint40 start, uint40 expires)
        external
        whenOpen
    {
        _allocate(Allocation(msg.sender, operator, id, cap, rate, start, expires));
    }

    /// @inheritdoc ICreditVault
    function allocateBySignature(Allocation calldata allocation, bytes calldata signature) external whenOpen {
        bytes32 digest = allocationDigest(allocation);
        if (!Signatures.isValid(allocation.owner, digest, signature)) revert InvalidSignature();
        _allocate(allocation);
    }

    /// @inheritdoc ICreditVault
    function raiseAllocation(address operator, uint256 id, uint96 cap, uint40 expires) external whenOpen {
        bytes32 allocation = allocationId(msg.sender, operator, id);
        Grant storage grant = _openGrant(allocation);
        Meter memory meter = grant.meter;
        if (block.timestamp > meter.expires) revert AllocationExpired(allocation);
        if (cap < meter.cap || expires < meter.expires || (cap == meter.cap && expires == meter.expires)) {
            revert NotRaised();
        }
        _take(msg.sender, cap - meter.cap);
        // forge-lint: disable-next-line(unsafe-typecast) -- what was taken and the old cap are part of all credits
        meter.cap = uint64(cap);
        meter.expires = expires;
        grant.meter = meter;
        _emitLimit(allocation, grant);
    }

    /// @inheritdoc ICreditVault
    function endAllocation(address operator, uint256 id) external {
        bytes32 allocation = allocationId(msg.sender, operator, id);
        Grant storage grant = _openGrant(allocation);
        uint40 end = uint40(block.timestamp) + END_NOTICE;
        if (end >= grant.meter.expires) revert AllocationExpired(allocation);
        grant.meter.expires = end;
        _emitLimit(allocation, grant);
    }

    /// @inheritdoc ICreditVault
    function voidAllocation(address operator, uint256 id) external {
        bytes32 allocation = allocationId(msg.sender, operator, id);
        Grant storage grant = _grants[allocation];
        if (grant.meter.status != Status.NONE) revert AllocationExists(allocation);
        grant.meter.status = Status.CLOSED;
        (grant.owner, grant.operator, grant.id) = (msg.sender, operator, id);
        emit AllocationVoided(msg.sender, operator, allocation, id);
    }

    /// @inheritdoc ICreditVault
    function allocationsOf(address owner) external view returns (bytes32[] memory) {
        return _open[owner];
    }

    /// @inheritdoc ICreditVault
    function allocationOf(bytes32 allocation) external view returns (AllocationView memory view_) {
        Grant storage grant = _grants[allocation];
        Meter memory meter = grant.meter;
        (view_.owner, view_.operator, view_.id) = (grant.owner, grant.operator, grant.id);
        (view_.cap, view_.rate, view_.start) = (meter.cap, grant.rate, grant.start);
        (view_.expires, view_.status) = (meter.expires, meter.status);
        (view_.metered, view_.streamed) = (meter.metered, meter.streamed);
        if (meter.status == Status.OPEN) view_.streamDue = _streamDue(grant, meter);
    }

    /// @inheritdoc ICreditVault
    function allocationDigest(Allocation calldata allocation) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(ALLOCATION_TYPEHASH, allocation)));
    }

    /// @inheritdoc ICreditVault
    function allocationId(address owner, address operator, uint256 id) public pure returns (bytes32) {
        return keccak256(abi.encode(owner, operator, id));
    }

    /// @dev Gives what is left back to the owner. The stream must have been paid.
    function _close(bytes32 allocation, Grant storage grant, Meter memory meter) internal {
        address owner = grant.owner;
        uint64 left = _left(meter);
        meter.status = Status.CLOSED;
        grant.meter = meter;
        bytes32[] storage open = _open[owner];
        uint8 place = grant.place;
        bytes32 last = open[open.length - 1];
        open[place] = last;
        _grants[last].place = place;
        open.pop();
        _give(owner, left);
        emit Released(owner, grant.operator, allocation, left);
    }

    function _allocatedBy(address owner) internal view override returns (uint256 total) {
        bytes32[] storage open = _open[owner];
        uint256 count = open.length;
        for (uint256 i = 0; i < count; ++i) {
            total += _left(_grants[open[i]].meter);
        }
    }

    /// @dev What the stream has earned and was not paid, as far as the cap reaches.
    function _streamDue(Grant storage grant, Meter memory meter) internal view returns (uint64) {
        uint256 rate = grant.rate;
        uint256 start = grant.start;
        uint256 end = block.timestamp < meter.expires ? block.timestamp : meter.expires;
        if (rate == 0 || end <= start) return 0;
        uint256 earned = rate * (end - start);
        if (earned <= meter.streamed) return 0;
        uint256 due = earned - meter.streamed;
        uint64 left = _left(meter);
        // forge-lint: disable-next-line(unsafe-typecast) -- less than what is left
        return due < left ? uint64(due) : left;
    }

    function _left(Meter memory meter) internal pure returns (uint64) {
        return meter.cap - meter.metered - meter.streamed;
    }

    function _allocate(Allocation memory a) private {
        if (
            a.operator == address(0) || a.operator == address(this) || a.cap == 0 || a.rate > a.cap
                || a.expires <= a.start || a.expires <= block.timestamp
        ) revert InvalidAllocation();
        bytes32 allocation = allocationId(a.owner, a.operator, a.id);
        Grant storage grant = _grants[allocation];
        if (grant.meter.status != Status.NONE) revert AllocationExists(allocation);
        bytes32[] storage open = _open[a.owner];
        uint256 place = open.length;
        if (place == MAX_OPEN) revert TooManyAllocations();
        _take(a.owner, a.cap);
        // forge-lint: disable-next-line(unsafe-typecast) -- part of all credits, and the rate is no more
        (uint64 cap, uint64 rate) = (uint64(a.cap), uint64(a.rate));
        grant.meter = Meter(cap, 0, 0, a.expires, Status.OPEN);
        // forge-lint: disable-next-line(unsafe-typecast) -- below MAX_OPEN
        (grant.owner, grant.start, grant.place) = (a.owner, a.start, uint8(place));
        (grant.operator, grant.rate, grant.id) = (a.operator, rate, a.id);
        open.push(allocation);
        _emitLimit(allocation, grant);
    }

    function _openGrant(bytes32 allocation) private view returns (Grant storage grant) {
        grant = _grants[allocation];
        if (grant.meter.status != Status.OPEN) revert AllocationNotOpen(allocation);
    }

    function _emitLimit(bytes32 allocation, Grant storage grant) private {
        Meter memory meter = grant.meter;
        emit LimitChanged(
            grant.owner,
            grant.operator,
            allocation,
            meter.cap,
            grant.rate,
            grant.start,
            meter.expires,
            grant.id
        );
    }
}
