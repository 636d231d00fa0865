#!/usr/bin/env python
"""Saves a workspace on Weights & Biases that shows what matters of our runs, in order.

    python scripts/wandb_workspace.py --entity ME --project svc
    python scripts/wandb_workspace.py --print      # what would be saved; needs no network

Every run of the project is shown in it, also those that come later. It needs the extra
`dashboards` (pip install 'svc[dashboards]') and, to save, a key (wandb login). What the panels tell
is in docs/dashboards.md; what they are is in svc.training.dashboard.
"""

import argparse
import json
import sys
from typing import Any

from svc.errors import UserError
from svc.training.dashboard import SECTIONS, STEP, LinePanel, MediaPanel, Panel, Section
from svc.training.loggers import has_wandb_key

NAME = "svc"
PANEL_ROWS = 2
WIDTH, HEIGHT = 24, 8
"""Of a whole section and of a panel, in the units of the layout."""


def workspace(entity: str, project: str, name: str = NAME) -> Any:
    """The workspace as an object of wandb-workspaces; building it asks nobody anything.

    Args:
        entity: user or team.
        project: whose runs are shown.
        name: of the saved view.

    Raises:
        UserError: wandb-workspaces is not installed.
    """
    try:
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise UserError(
            f"The workspace needs the package wandb-workspaces ({error}). Install it with "
            f"pip install 'svc[dashboards]'."
        ) from error
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[_section(section) for section in SECTIONS],
        settings=ws.WorkspaceSettings(x_axis=STEP),
    )


def _section(section: Section) -> Any:
    import wandb_workspaces.workspaces as ws

    width = WIDTH // section.columns
    panels = []
    for place, panel in enumerate(section.panels):
        row, column = divmod(place, section.columns)
        panels.append(_panel(panel, (column * width, row * HEIGHT, width, HEIGHT)))
    return ws.Section(
        name=section.title,
        panels=panels,
        is_open=section.is_open,
        layout_settings=ws.SectionLayoutSettings(columns=section.columns, rows=PANEL_ROWS),
    )


def _panel(panel: Panel, place: tuple[int, int, int, int]) -> Any:
    import wandb_workspaces.reports.v2 as wr

    layout = wr.Layout(*place)
    if isinstance(panel, LinePanel):
        return wr.LinePlot(
            title=panel.title,
            x=STEP,
            y=list(panel.metrics),
            log_y=panel.log_y,
            range_y=panel.y_range,
            layout=layout,
        )
    if isinstance(panel, MediaPanel):
        return wr.MediaBrowser(title=panel.title, media_keys=list(panel.keys), layout=layout)
    return wr.WeavePanelSummaryTable(table_name=panel.table, layout=layout)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entity", help="user or team; the default of the account where left out")
    parser.add_argument("--project", default="svc", help="logger.wandb.project of the runs (svc)")
    parser.add_argument("--name", default=NAME, help="of the saved view (svc)")
    parser.add_argument(
        "--print", action="store_true", help="write the view as JSON instead of saving it"
    )
    arguments = parser.parse_args()
    try:
        if arguments.print:
            view = workspace(arguments.entity or "ENTITY", arguments.project, arguments.name)
            print(json.dumps(view._to_model().spec.model_dump(mode="json"), indent=1))
        else:
            _save(arguments)
    except UserError as error:
        print(f"wandb_workspace.py: {error}", file=sys.stderr)
        sys.exit(2)


def _save(arguments: argparse.Namespace) -> None:
    import wandb

    if not has_wandb_key():
        raise UserError(
            "There is no key for wandb on this machine. Run `wandb login` or set WANDB_API_KEY; or "
            "see with --print what would be saved."
        )
    workspace("ENTITY", arguments.project)  # says what is not installed before anybody is asked
    try:
        entity = arguments.entity or wandb.Api().default_entity
        view = workspace(entity, arguments.project, arguments.name).save()
        print(view.url)
    except Exception as error:  # the two packages have no common one
        raise UserError(
            f"The workspace could not be saved into the project {arguments.project} ({error}). "
            f"Does it exist? Its first run makes it."
        ) from error


if __name__ == "__main__":
    main()
