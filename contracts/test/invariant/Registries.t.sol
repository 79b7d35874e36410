// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {OperatorRegistry} from "../../src/OperatorRegistry.sol";
import {SiteRegistry} from "../../src/SiteRegistry.sol";
import {World} from "../World.sol";
import {RegistriesHandler} from "./RegistriesHandler.sol";

contract RegistriesInvariants is World {
    RegistriesHandler private handler;
    OperatorRegistry private operators;
    SiteRegistry private sites;
    address private treasury = makeAddr("treasury");

    function setUp() public override {
        super.setUp();
        operators = new OperatorRegistry(vault, treasury, 100e6);
        sites = new SiteRegistry(vault, treasury, 5e6, 1e6, keccak256("base"));
        handler = new RegistriesHandler(vault, operators, sites);
        for (uint256 i = 0; i < handler.peopleCount(); ++i) {
            fund(handler.people(i), 2000e6);
        }
        bytes4[] memory selectors = new bytes4[](10);
        selectors[0] = handler.register.selector;
        selectors[1] = handler.addStake.selector;
        selectors[2] = handler.leave.selector;
        selectors[3] = handler.slash.selector;
        selectors[4] = handler.registerSite.selector;
        selectors[5] = handler.registerLabel.selector;
        selectors[6] = handler.renew.selector;
        selectors[7] = handler.transfer.selector;
        selectors[8] = handler.revoke.selector;
        selectors[9] = handler.warp.selector;
        targetContract(address(handler));
        targetSelector(FuzzSelector(address(handler), selectors));
    }

    function invariant_stakesAreHeldAndOnlyEvidenceTakesThem() public view {
        uint256 sum;
        for (uint256 i = 0; i < handler.peopleCount(); ++i) {
            address who = handler.people(i);
            assertEq(operators.operatorOf(who).stake, handler.stake(who));
            assertEq(operators.isOperator(who), handler.stake(who) != 0 && handler.leftAt(who) == 0);
            sum += handler.stake(who);
        }
        assertEq(vault.accountOf(address(operators)).balance, sum, "stakes");
        assertEq(vault.accountOf(treasury).balance, handler.income(), "treasury");
        assertEq(vault.accountOf(address(sites)).balance, 0, "sites hold nothing");
    }

    function invariant_tokensAreTheirHoldersAlone() public view {
        for (uint256 i = 0; i < handler.tokenCount(); ++i) {
            uint256 token = handler.tokens(i);
            address holder = handler.holder(token);
            if (token <= type(uint80).max) {
                bytes10 site = bytes10(uint80(token));
                assertEq(sites.siteOwner(site), holder);
                assertEq(sites.revokedBefore(site, holder), handler.revoked(token));
                assertLe(handler.revoked(token), block.timestamp);
            } else {
                string memory label = handler.labelOf(token);
                bool live = sites.expiresOf(label) > block.timestamp;
                assertEq(sites.ownerOfLabel(label), live ? holder : address(0));
            }
        }
    }

    /// No stake is locked: after each run every operator leaves with its own.
    function afterInvariant() public {
        handler.leaveAll();
    }
}
