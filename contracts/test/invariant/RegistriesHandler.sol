// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Test} from "forge-std/Test.sol";

import {CreditVault} from "../../src/CreditVault.sol";
import {OperatorRegistry} from "../../src/OperatorRegistry.sol";
import {SiteRegistry} from "../../src/SiteRegistry.sol";
import {IOperatorRegistry} from "../../src/interfaces/IOperatorRegistry.sol";

/// @dev Calls both registries at random, and keeps books of whose is what.
contract RegistriesHandler is Test {
    CreditVault public immutable vault;
    OperatorRegistry public immutable operators;
    SiteRegistry public immutable sites;

    address[] public people;
    uint256[] private keys;
    mapping(address => uint256) public stake;
    mapping(address => uint256) public leftAt;
    mapping(address => bool) public slashed;
    uint256[] public tokens;
    mapping(uint256 => address) public holder;
    mapping(uint256 => string) public labelOf;
    mapping(uint256 => uint64) public revoked; // of the present holder of a site
    uint256 public income; // of the treasury
    uint256 private nextLabel = 1;

    constructor(CreditVault vault_, OperatorRegistry operators_, SiteRegistry sites_) {
        (vault, operators, sites) = (vault_, operators_, sites_);
        string[3] memory names = ["ann", "bob", "cem"];
        for (uint256 i = 0; i < 3; ++i) {
            (address who, uint256 key) = makeAddrAndKey(names[i]);
            people.push(who);
            keys.push(key);
            vm.startPrank(who);
            vault.approve(address(operators), type(uint256).max);
            vault.approve(address(sites), type(uint256).max);
            vm.stopPrank();
        }
    }

    function register(uint256 by, uint256 amount) external {
        address who = _person(by);
        if (stake[who] != 0 || slashed[who]) return;
        amount = bound(amount, 100e6, 200e6);
        if (vault.accountOf(who).available < amount) return;
        vm.prank(who);
        operators.register(uint96(amount), "peer", "http://node", 0);
        stake[who] = amount;
    }

    function addStake(uint256 by, uint256 amount) external {
        address who = _person(by);
        if (stake[who] == 0 || leftAt[who] != 0) return;
        amount = bound(amount, 0, 10e6);
        vm.startPrank(who);
        operators.addStake(uint96(amount));
        operators.update("other", "http://other", "prices");
        vm.stopPrank();
        stake[who] += amount;
    }

    function leave(uint256 by) external {
        address who = _person(by);
        if (stake[who] == 0) return;
        if (leftAt[who] == 0) {
            vm.prank(who);
            operators.deregister();
            leftAt[who] = block.timestamp;
        } else if (block.timestamp >= leftAt[who] + 14 days) {
            vm.prank(who);
            operators.withdrawStake();
            (stake[who], leftAt[who]) = (0, 0);
        }
    }

    /// @dev Rarely with evidence; else with what is none.
    function slash(uint256 by, uint256 reporter, bool lied, bytes32 root) external {
        uint256 index = by % people.length;
        address who = people[index];
        IOperatorRegistry.UsageStatement memory a = IOperatorRegistry.UsageStatement(who, "id", 7, root);
        IOperatorRegistry.UsageStatement memory b = IOperatorRegistry.UsageStatement(who, "id", 7, ~root);
        bytes memory one = _sign(keys[index], a);
        bytes memory other = _sign(lied && by % 8 == 0 ? keys[index] : 1, b);
        uint256 taken = stake[who];
        vm.prank(_person(reporter));
        if (lied && by % 8 == 0 && taken != 0) {
            operators.slash(a, one, b, other);
            income += taken - taken / 10;
            (stake[who], leftAt[who], slashed[who]) = (0, 0, true);
        } else {
            vm.expectRevert();
            operators.slash(a, one, b, other);
        }
    }

    function registerSite(uint256 by) external {
        address who = _person(by);
        string memory label = _label();
        vm.prank(who);
        bytes10 site = sites.registerSite(label);
        _own(uint80(site), who, label);
    }

    function registerLabel(uint256 by, uint256 to, uint256 duration) external {
        (address payer, address who) = (_person(by), _person(to));
        string memory label = _label();
        duration = bound(duration, 28 days, 400 days);
        uint256 price = sites.priceOf(label, duration);
        if (vault.accountOf(payer).available < price) return;
        sites.commit(sites.commitmentOf(label, who, "secret"));
        skip(1 minutes);
        vm.prank(payer);
        _own(sites.register(label, who, duration, "secret"), who, label);
        income += price;
    }

    function renew(uint256 by, uint256 which, uint256 duration) external {
        uint256 token = _token(which);
        if (token <= type(uint80).max) return;
        uint256 expires = sites.expiresOf(labelOf[token]);
        duration = bound(duration, 1 days, 100 days);
        uint256 price = sites.priceOf(labelOf[token], duration);
        if (block.timestamp > expires + 90 days || expires + duration > block.timestamp + 3652 days) return;
        if (vault.accountOf(_person(by)).available < price) return;
        vm.prank(_person(by));
        sites.renew(labelOf[token], duration);
        income += price;
    }

    function transfer(uint256 by, uint256 to, uint256 which) external {
        (address who, address next, uint256 token) = (_person(by), _person(to), _token(which));
        if (token == 0) return;
        bool live = token <= type(uint80).max || sites.expiresOf(labelOf[token]) > block.timestamp;
        uint256 fee = sites.TRANSFER_FEE();
        if (holder[token] != who || !live || vault.accountOf(who).available < fee) {
            vm.prank(who);
            vm.expectRevert();
            sites.transferFrom(who, next, token);
            return;
        }
        vm.prank(who);
        sites.transferFrom(who, next, token);
        income += fee;
        holder[token] = next;
        revoked[token] = token <= type(uint80).max ? sites.revokedBefore(bytes10(uint80(token)), next) : 0;
    }

    function revoke(uint256 by, uint256 which, uint64 before) external {
        (address who, uint256 token) = (_person(by), _token(which));
        if (token == 0 || token > type(uint80).max) return;
        before = uint64(bound(before, 0, block.timestamp));
        vm.prank(who);
        if (holder[token] != who) vm.expectRevert();
        sites.revokeDelegations(bytes10(uint80(token)), before);
        if (holder[token] == who && before > revoked[token]) revoked[token] = before;
    }

    function warp(uint256 by) external {
        skip(bound(by, 1, 20 days));
    }

    function leaveAll() external {
        for (uint256 i = 0; i < people.length; ++i) {
            address who = people[i];
            if (stake[who] == 0) continue;
            vm.startPrank(who);
            if (leftAt[who] == 0) operators.deregister();
            skip(14 days);
            operators.withdrawStake();
            vm.stopPrank();
        }
        assertEq(vault.accountOf(address(operators)).balance, 0, "stakes left");
        assertEq(vault.accountOf(address(sites)).balance, 0, "credits left");
    }

    function peopleCount() external view returns (uint256) {
        return people.length;
    }

    function tokenCount() external view returns (uint256) {
        return tokens.length;
    }

    function _person(uint256 seed) private view returns (address) {
        return people[seed % people.length];
    }

    function _token(uint256 seed) private view returns (uint256) {
        return tokens.length == 0 ? 0 : tokens[seed % tokens.length];
    }

    function _label() private returns (string memory) {
        return string.concat("label-", vm.toString(nextLabel++));
    }

    function _own(uint256 token, address who, string memory label) private {
        tokens.push(token);
        (holder[token], labelOf[token]) = (who, label);
    }

    function _sign(uint256 key, IOperatorRegistry.UsageStatement memory statement)
        private
        view
        returns (bytes memory)
    {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, operators.statementDigest(statement));
        return abi.encodePacked(r, s, v);
    }
}
