"""Waiting for a page in the browser."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

PATIENCE = 120_000
"""Milliseconds that a busy machine may need for one step."""


def until(tab: "Page", condition: str) -> None:
    """Wait for a condition in JavaScript; Playwright's own waiting wants eval, which the pages forbid."""
    patient = f"performance.now() > start + {PATIENCE}"
    look = f"() => ({condition}) ? done() : {patient} ? fail(new Error('it never came')) : setTimeout(look, 20)"
    tab.evaluate(f"new Promise((done, fail) => {{ const start = performance.now(); const look = {look}; look(); }})")
