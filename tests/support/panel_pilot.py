"""Driving the panel as a person would, without a terminal."""

import asyncio

from textual.widgets import DataTable

from rl_exporter.panel.action_heads_panel import ActionHeadsPanel
from tests.support.waiting import until_async


def drive(app, script, size=(120, 40)):
    """Run ``script(pilot)`` against the app, without a terminal."""

    async def main():
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            return await script(pilot)

    return asyncio.run(main())


def panel(app):
    return app.screen.query_one(ActionHeadsPanel)


def text(app):
    return panel(app).render().plain


async def shows(pilot, *words):
    await until_async(lambda: all(word in text(pilot.app) for word in words), pilot)


def rows(app):
    table = app.screen.query_one(DataTable)
    return [[str(cell) for cell in table.get_row_at(i)] for i in range(table.row_count)]
