// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC721Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";

import {SiteRegistry} from "../src/SiteRegistry.sol";
import {ICreditVault} from "../src/interfaces/ICreditVault.sol";
import {ISiteRegistry} from "../src/interfaces/ISiteRegistry.sol";
import {Labels} from "../src/libraries/Labels.sol";
import {World} from "./World.sol";
import {HostileReceiver} from "./mocks/Hostile.sol";

contract SiteRegistryTest is World {
    uint96 private constant YEAR_PRICE = 5e6;
    uint96 private constant FEE = 1e6;
    bytes32 private constant BASE = keccak256("base");
    bytes private constant HASH = hex"e30101701220";

    SiteRegistry private registry;
    address private treasury = makeAddr("treasury");

    function setUp() public override {
        super.setUp();
        registry = new SiteRegistry(vault, treasury, YEAR_PRICE, FEE, BASE);
        vm.prank(owner);
        vault.approve(address(registry), type(uint256).max);
    }

    // Sites

    function testFuzz_registerSite(address who, uint256 seed) public {
        vm.assume(who != address(0));
        string memory label = _label(seed);
        bytes10 site = bytes10(sha256(abi.encodePacked(who, label)));
        assertEq(registry.siteIdOf(who, label), site);
        assertEq(registry.siteOwner(site), address(0));
        vm.startPrank(who);
        vm.expectEmit();
        emit ISiteRegistry.SiteRegistered(site, who, label);
        assertEq(registry.registerSite(label), site);
        assertEq(registry.siteOwner(site), who);
        assertEq(registry.ownerOf(uint80(site)), who);
        vm.expectRevert(abi.encodeWithSelector(ISiteRegistry.SiteTaken.selector, site));
        registry.registerSite(label);
        // A site's token is no name.
        assertEq(registry.addr(bytes32(uint256(uint80(site)))), address(0));
    }

    function test_aSiteIdOfTheNodesTests() public view {
        // SHA-256 of twenty bytes 0x11 and "blog", as Python's hashlib has it.
        assertEq(registry.siteIdOf(address(uint160(type(uint160).max / 15)), "blog"), SITE_OF_ONES);
    }

    bytes10 private constant SITE_OF_ONES = bytes10(0xd12a992e95ca74576b8a);

    function testFuzz_labels(string calldata label) public {
        if (!_valid(bytes(label))) {
            vm.expectRevert(abi.encodeWithSelector(Labels.InvalidLabel.selector, label));
        }
        registry.siteIdOf(owner, label);
    }

    function testFuzz_almostLabels(uint256 seed) public {
        // Of the few characters that matter: random text is hardly ever near a label.
        bytes memory alphabet = "az09-AZ_. /:`{";
        bytes memory text = new bytes(seed % 5 == 0 ? seed % 50 : seed % 6);
        for (uint256 i = 0; i < text.length; ++i) {
            uint256 r = uint256(keccak256(abi.encode(seed, i)));
            text[i] = alphabet[r % (r % 3 == 0 ? alphabet.length : 5)];
        }
        if (!_valid(text)) {
            vm.expectRevert(abi.encodeWithSelector(Labels.InvalidLabel.selector, string(text)));
        }
        registry.siteIdOf(owner, string(text));
    }

    function testFuzz_transferOfASite(address to, uint32 wait) public {
        vm.assume(to != address(0) && to != owner);
        vm.startPrank(owner);
        bytes10 site = registry.registerSite("blog");
        skip(wait);
        vm.expectEmit();
        emit ISiteRegistry.DelegationRevoked(site, owner, uint64(block.timestamp));
        vm.expectEmit();
        emit ISiteRegistry.SiteTransferred(site, owner, to);
        registry.transferFrom(owner, to, uint80(site));
        assertEq(registry.siteOwner(site), to);
        assertEq(registry.transferredAt(site), block.timestamp);
        assertEq(registry.revokedBefore(site, owner), block.timestamp);
        assertEq(available(treasury), FEE);
        assertEq(available(owner), AMPLE - FEE);
        // The founder cannot found it again.
        vm.expectRevert(abi.encodeWithSelector(ISiteRegistry.SiteTaken.selector, site));
        registry.registerSite("blog");
        vm.expectRevert(abi.encodeWithSelector(ISiteRegistry.NotSiteOwner.selector, site, owner));
        registry.revokeDelegations(site, 1);
    }

    function testFuzz_onlyTheOwnerTransfers(address who) public {
        vm.assume(who != owner && who != address(0));
        vm.prank(owner);
        bytes10 site = registry.registerSite("blog");
        vm.startPrank(who);
        reverts(IERC721Errors.ERC721InsufficientApproval.selector);
        registry.transferFrom(owner, who, uint80(site));
        reverts(IERC721Errors.ERC721InvalidApprover.selector);
        registry.approve(who, uint80(site));
        vm.expectRevert(abi.encodeWithSelector(ISiteRegistry.NotSiteOwner.selector, site, who));
        registry.revokeDelegations(site, 1);
    }

    function test_aTransferWithoutItsFee() public {
        vm.startPrank(stranger);
        bytes10 site = registry.registerSite("blog");
        reverts(ICreditVault.InsufficientAllowance.selector);
        registry.transferFrom(stranger, owner, uint80(site));
        vault.approve(address(registry), FEE);
        reverts(ICreditVault.InsufficientCredits.selector);
        registry.transferFrom(stranger, owner, uint80(site));
        assertEq(registry.siteOwner(site), stranger);
        assertEq(registry.transferredAt(site), 0);
    }

    function test_receiversThatRefuseOrCallBack() public {
        HostileReceiver receiver = new HostileReceiver();
        vm.startPrank(owner);
        bytes10 site = registry.registerSite("blog");
        reverts(IERC721Errors.ERC721InvalidReceiver.selector);
        registry.safeTransferFrom(owner, address(receiver), uint80(site));
        // Sent on from within: the fee is then the receiver's to pay, and it has none.
        receiver.set(
            true,
            address(registry),
            abi.encodeWithSignature(
                "transferFrom(address,address,uint256)", address(receiver), rival, uint80(site)
            )
        );
        registry.safeTransferFrom(owner, address(receiver), uint80(site));
        assertFalse(receiver.succeeded());
        assertEq(registry.siteOwner(site), address(receiver));
        assertEq(available(treasury), FEE);
    }

    function testFuzz_revokeDelegations(uint64 first, uint64 second, bool everything) public {
        vm.startPrank(owner);
        bytes10 site = everything ? bytes10(0) : registry.registerSite("blog");
        uint64 highest;
        for (uint256 i = 0; i < 2; ++i) {
            uint64 before = i == 0 ? first : second;
            if (before > block.timestamp) {
                vm.expectRevert(abi.encodeWithSelector(ISiteRegistry.RevokesTheFuture.selector, before));
            } else if (before > highest) {
                highest = before;
            }
            registry.revokeDelegations(site, before);
            assertEq(registry.revokedBefore(site, owner), highest);
        }
        assertEq(registry.revokedBefore(site, stranger), 0);
    }

    // Labels

    function testFuzz_register(uint256 seed, uint256 duration, uint256 wait, bytes32 secret) public {
        string memory label = _label(seed);
        duration = bound(duration, 1 days, 4000 days);
        wait = bound(wait, 0, 2 days);
        bytes32 commitment = registry.commitmentOf(label, rival, secret);
        vm.prank(stranger);
        registry.commit(commitment);
        skip(wait);
        vm.startPrank(owner);
        if (wait < 1 minutes || wait > 1 days) {
            vm.expectRevert(abi.encodeWithSelector(ISiteRegistry.CommitmentUnusable.selector, commitment));
            registry.register(label, rival, duration, secret);
            return;
        }
        if (duration < 28 days || duration > 3652 days) {
            vm.expectRevert(abi.encodeWithSelector(ISiteRegistry.InvalidDuration.selector, duration));
            registry.register(label, rival, duration, secret);
            return;
        }
        uint256 price = registry.priceOf(label, duration);
        assertTrue(registry.available(label));
        uint256 node = registry.register(label, rival, duration, secret);
        assertEq(bytes32(node), keccak256(abi.encodePacked(BASE, keccak256(bytes(label)))));
        assertEq(registry.ownerOfLabel(label), rival);
        assertEq(registry.addr(bytes32(node)), rival);
        assertEq(registry.expiresOf(label), block.timestamp + duration);
        assertEq(available(treasury), price);
        assertEq(available(owner), AMPLE - price);
        assertFalse(registry.available(label));
        vm.expectRevert(abi.encodeWithSelector(ISiteRegistry.CommitmentUnusable.selector, commitment));
        registry.register(label, rival, duration, secret);
    }

    function testFuzz_priceOf(uint256 seed, uint256 duration) public view {
        string memory label = _label(seed);
        duration = bound(duration, 0, 3652 days);
        uint256 length = bytes(label).length;
        uint256 year = length < 3 ? 64 * 5e6 : length == 3 ? 16 * 5e6 : length == 4 ? 4 * 5e6 : 5e6;
        uint256 price = registry.priceOf(label, duration);
        assertGe(price * 365 days, year * duration);
        assertLt(price * 365 days, year * duration + 365 days);
    }

    function test_seenAtReveal() public {
        // Who sees the label when it is revealed comes too late, with any commitment.
        bytes32 commitment = registry.commitmentOf("blog", owner, "secret");
        registry.commit(commitment);
        skip(1 minutes);
        vm.startPrank(rival);
        reverts(ISiteRegistry.CommitmentUnusable.selector);
        registry.register("blog", rival, 365 days, "secret");
        registry.commit(registry.commitmentOf("blog", rival, "mine"));
        reverts(ISiteRegistry.CommitmentUnusable.selector);
        registry.register("blog", rival, 365 days, "mine");
        // Nor does committing again keep the owner waiting.
        reverts(ISiteRegistry.CommitmentPending.selector);
        registry.commit(commitment);
        vm.stopPrank();
        vm.prank(owner);
        registry.register("blog", owner, 365 days, "secret");
        skip(1 minutes);
        vm.prank(rival);
        vm.expectRevert(abi.encodeWithSelector(ISiteRegistry.LabelTaken.selector, "blog"));
        registry.register("blog", rival, 365 days, "mine");
    }

    function test_whatWasNeverCommitted() public {
        vm.warp(10);
        vm.prank(owner);
        reverts(ISiteRegistry.CommitmentUnusable.selector);
        registry.register("blog", owner, 365 days, "secret");
        registry.commit("young chain");
    }

    function testFuzz_renew(uint256 duration, uint256 wait) public {
        uint256 node = _register("blog", owner, 100 days);
        uint40 before = registry.expiresOf("blog");
        duration = bound(duration, 0, 4000 days);
        wait = bound(wait, 0, 300 days);
        skip(wait);
        fund(stranger, AMPLE);
        vm.startPrank(stranger);
        vault.approve(address(registry), AMPLE);
        if (wait > 190 days) {
            vm.expectRevert(abi.encodeWithSelector(ISiteRegistry.LabelUnknown.selector, "blog"));
            registry.renew("blog", duration);
            return;
        }
        if (duration == 0 || duration > 3652 days || before + duration > block.timestamp + 3652 days) {
            vm.expectRevert(abi.encodeWithSelector(ISiteRegistry.InvalidDuration.selector, duration));
            registry.renew("blog", duration);
            return;
        }
        vm.expectEmit();
        emit ISiteRegistry.LabelRenewed(
            node, "blog", uint40(before + duration), registry.priceOf("blog", duration)
        );
        registry.renew("blog", duration);
        assertEq(registry.expiresOf("blog"), before + duration);
        assertEq(available(stranger), AMPLE - registry.priceOf("blog", duration));
        assertEq(registry.ownerOfLabel("blog"), before + duration > block.timestamp ? owner : address(0));
    }

    function test_durationsThatOverflow() public {
        _register("blog", owner, 100 days);
        vm.prank(owner);
        vm.expectRevert(abi.encodeWithSelector(ISiteRegistry.InvalidDuration.selector, type(uint256).max));
        registry.renew("blog", type(uint256).max);
        vm.expectRevert(abi.encodeWithSelector(ISiteRegistry.LabelUnknown.selector, "other"));
        registry.renew("other", 1 days);
    }

    function testFuzz_expiry(uint256 wait) public {
        uint256 node = _register("blog", owner, 100 days);
        vm.startPrank(owner);
        registry.setContenthash("blog", HASH);
        registry.setSite("blog", "0123456789");
        wait = bound(wait, 0, 300 days);
        skip(wait);
        bool live = wait < 100 days;
        assertEq(registry.ownerOfLabel("blog"), live ? owner : address(0));
        assertEq(registry.contenthashOfLabel("blog"), live ? HASH : bytes(""));
        assertEq(registry.siteOfLabel("blog"), live ? bytes10("0123456789") : bytes10(0));
        assertEq(registry.available("blog"), wait > 190 days);
        if (!live) vm.expectRevert(abi.encodeWithSelector(ISiteRegistry.LabelExpired.selector, node));
        registry.ownerOf(node);
        if (!live) vm.expectRevert(abi.encodeWithSelector(ISiteRegistry.LabelExpired.selector, node));
        registry.setContenthash("blog", "");
        if (!live) vm.expectRevert(abi.encodeWithSelector(ISiteRegistry.LabelExpired.selector, node));
        registry.transferFrom(owner, rival, node);
        if (wait <= 190 days) return;
        vm.stopPrank();
        assertEq(_register("blog", rival, 100 days), node);
        assertEq(registry.ownerOf(node), rival);
        assertEq(registry.balanceOf(owner), 0);
        assertEq(registry.contenthashOfLabel("blog"), "");
        assertEq(registry.siteOfLabel("blog"), bytes10(0));
    }

    function testFuzz_transferOfALabel(address to) public {
        vm.assume(to != address(0) && to != owner);
        uint256 node = _register("blog", owner, 100 days);
        uint256 before = available(owner);
        vm.startPrank(owner);
        vm.expectEmit();
        emit ISiteRegistry.LabelTransferred(node, owner, to);
        registry.transferFrom(owner, to, node);
        assertEq(registry.ownerOfLabel("blog"), to);
        assertEq(available(owner), before - FEE);
        vm.expectRevert(abi.encodeWithSelector(ISiteRegistry.NotLabelOwner.selector, node, owner));
        registry.setSite("blog", 0);
    }

    function testFuzz_setContenthash(bytes calldata hash) public {
        uint256 node = _register("blog", owner, 100 days);
        vm.startPrank(owner);
        if (hash.length > 128) {
            vm.expectRevert(abi.encodeWithSelector(ISiteRegistry.ContenthashTooLong.selector, hash.length));
            registry.setContenthash("blog", hash);
            return;
        }
        vm.expectEmit();
        emit ISiteRegistry.ContenthashChanged(bytes32(node), hash);
        registry.setContenthash("blog", hash);
        assertEq(registry.contenthashOfLabel("blog"), hash);
        assertEq(registry.contenthash(bytes32(node)), hash);
        vm.stopPrank();
        vm.prank(stranger);
        vm.expectRevert(abi.encodeWithSelector(ISiteRegistry.NotLabelOwner.selector, node, stranger));
        registry.setContenthash("blog", hash);
    }

    function testFuzz_setSite(bytes10 site) public {
        uint256 node = _register("blog", owner, 100 days);
        vm.prank(owner);
        registry.approve(rival, node);
        vm.startPrank(rival);
        registry.setSite("blog", site);
        assertEq(registry.siteOfLabel("blog"), site);
    }

    function test_resolve() public {
        bytes32 node = bytes32(_register("blog", owner, 100 days));
        vm.prank(owner);
        registry.setContenthash("blog", HASH);
        bytes memory name = "\x04blog\x04base\x03eth\x00";
        bytes memory question = abi.encodeWithSignature("contenthash(bytes32)", node);
        assertEq(abi.decode(registry.resolve(name, question), (bytes)), HASH);
        question = abi.encodeWithSignature("addr(bytes32)", node);
        assertEq(abi.decode(registry.resolve(name, question), (address)), owner);
        assertEq(abi.decode(registry.resolve("\x04blag\x00", question), (address)), address(0));
        assertEq(registry.resolve(name, "other"), "");
        assertTrue(registry.supportsInterface(0x9061b923));
        assertTrue(registry.supportsInterface(0xbc1c58d1));
        assertTrue(registry.supportsInterface(0x3b3b57de));
        assertTrue(registry.supportsInterface(0x80ac58cd));
        assertFalse(registry.supportsInterface(0xffffffff));
    }

    function testFuzz_resolveNonsense(bytes calldata name, bytes calldata data) public view {
        registry.resolve(name, data);
    }

    function test_zeroAddresses() public {
        vm.expectRevert(ISiteRegistry.ZeroAddress.selector);
        new SiteRegistry(ICreditVault(address(0)), treasury, 1, 1, 0);
        vm.expectRevert(ISiteRegistry.ZeroAddress.selector);
        new SiteRegistry(vault, address(0), 1, 1, 0);
    }

    function _register(string memory label, address to, uint256 duration) private returns (uint256) {
        registry.commit(registry.commitmentOf(label, to, "secret"));
        skip(1 minutes);
        vm.prank(owner);
        return registry.register(label, to, duration, "secret");
    }

    function _label(uint256 seed) private pure returns (string memory) {
        bytes memory text = new bytes(seed % 45 + 1);
        for (uint256 i = 0; i < text.length; ++i) {
            uint256 r = uint256(keccak256(abi.encode(seed, i))) % 37;
            bool mayBeHyphen = i != 0 && i != text.length - 1 && text[i - 1] != "-";
            text[i] = r < 26
                ? bytes1(uint8(97 + r))
                : r < 36 || !mayBeHyphen ? bytes1(uint8(48 + r % 10)) : bytes1("-");
        }
        return string(text);
    }

    /// The grammar again, the other way round: what may not be anywhere.
    function _valid(bytes memory text) private pure returns (bool) {
        if (text.length == 0 || text.length > 45 || text[0] == "-" || text[text.length - 1] == "-") {
            return false;
        }
        for (uint256 i = 0; i < text.length; ++i) {
            uint8 c = uint8(text[i]);
            if (c != 45 && (c < 48 || c > 57) && (c < 97 || c > 122)) return false;
            if (c == 45 && text[i + 1] == "-") return false;
        }
        return true;
    }
}
