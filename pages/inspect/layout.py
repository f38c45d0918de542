"""The layout of the Inspect page: its components, and nothing that happens."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gradio as gr

from vlm4vla.inspection.offline import SCRIPT, TEMPLATE
from vlm4vla.suites.tabletop.instructions import MAX_CHARACTERS

SAME: Final = "whoever acted"
"""The first choice of who takes over."""

UNCHANGED: Final = [("nothing else", "")]
"""What a branch changes about what there is to see, where nothing is said."""


@dataclass(frozen=True)
class Layout:
    """The components of the page.

    Attributes:
        choice: episodes to choose from, where none is asked for.
        status: what is being made.
        viewer: the episode.
        tools: what can be done with it; hidden until there is one.
        sentence: what the branch is told.
        offered: sentences about other things of the scene.
        agent: who acts in the branch.
        change: what is changed about what there is to see.
        expert: hands over to the expert.
        branch: runs the branch.
        complaint: why it cannot be run.
        zip: saves everything as one file.
        page: saves one page.
        saved: what is being saved.
        run: the id of the episode.
        step: the step that the viewer shows; filled in by the browser.
    """

    choice: gr.HTML
    status: gr.HTML
    viewer: gr.HTML
    tools: gr.Column
    sentence: gr.Textbox
    offered: gr.Dataset
    agent: gr.Dropdown
    change: gr.Dropdown
    expert: gr.Button
    branch: gr.Button
    complaint: gr.HTML
    zip: gr.Button
    page: gr.Button
    saved: gr.HTML
    run: gr.State
    step: gr.Number

    def written(self) -> list[Any]:
        """What the events of the page write to."""
        return [
            self.choice,
            self.status,
            self.viewer,
            self.tools,
            self.sentence,
            self.offered,
            self.agent,
            self.change,
            self.complaint,
            self.run,
        ]


def lay_out() -> Layout:
    """Lays the page out, with nothing in it yet."""
    choice = gr.HTML("", elem_id="inspect-choice", visible=False)
    status = gr.HTML(_line(""), elem_id="inspect-status", apply_default_css=False)
    viewer = gr.HTML(
        None,
        html_template=TEMPLATE,
        js_on_load=SCRIPT,
        apply_default_css=False,
        elem_id="inspect",
        elem_classes="inspect-view",
    )
    with gr.Column(visible=False, elem_id="inspect-tools") as tools:
        gr.Markdown(
            "## What if, from here\nThe episode runs again up to the step shown above, "
            "then with one thing changed. The branch is drawn over it in pink."
        )
        with gr.Row(elem_id="inspect-branch"):
            sentence = gr.Textbox(
                label="Told from here on",
                max_length=MAX_CHARACTERS,
                elem_id="inspect-sentence",
                scale=3,
            )
            agent = gr.Dropdown(
                [SAME], value=SAME, label="Acts from here on", elem_id="inspect-agent", scale=1
            )
            change = gr.Dropdown(
                UNCHANGED,
                value="",
                label="Changed from here on",
                elem_id="inspect-change",
                scale=1,
                min_width=200,
            )
            branch = gr.Button("Run the branch", variant="primary", elem_id="inspect-go")
            expert = gr.Button("Let the expert take over", elem_id="inspect-expert")
        offered = gr.Dataset(
            components=[gr.Textbox(visible=False)],
            samples=[],
            label="Sentences about other things here",
            elem_id="inspect-offered",
            type="values",
        )
        complaint = gr.HTML(visible=False)
        with gr.Row(elem_id="inspect-save"):
            page = gr.Button("Save as one page", size="sm", elem_id="inspect-page")
            as_zip = gr.Button("Save everything (zip)", size="sm", elem_id="inspect-zip")
    saved = gr.HTML(
        None,
        html_template="<span></span>",
        js_on_load=(Path(__file__).parent / "saved.js").read_text(),
        elem_id="inspect-saved",
    )
    return Layout(
        choice,
        status,
        viewer,
        tools,
        sentence,
        offered,
        agent,
        change,
        expert,
        branch,
        complaint,
        as_zip,
        page,
        saved,
        gr.State(""),
        gr.Number(visible=False),
    )


def _line(text: str) -> str:
    return f'<p class="is" role="status">{text}</p>'
