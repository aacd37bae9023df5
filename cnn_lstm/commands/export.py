"""`cnn-lstm export`: a checkpoint as ONNX, torch.export or safetensors, checked against eager."""

from __future__ import annotations

from cnn_lstm.commands.parser import CommandParser, filled_path
from cnn_lstm.inference.export import FORMATS, export
from cnn_lstm.runs.messages import set_up_messages
from cnn_lstm.training.run_folder import writing


def run(argv: list[str]) -> None:
    """Runs `export`.

    Args:
        argv: `export` and its arguments.
    """
    parser = CommandParser(
        prog="cnn-lstm export", description="Writes a checkpoint for other programs, with a JSON that describes it."
    )
    parser.add_argument("--ckpt_path", metavar="FILE", type=filled_path, required=True, help="of fit or repeat")
    parser.add_argument("--format", choices=list(FORMATS), default="onnx", help="onnx by default")
    parser.add_argument(
        "--output", metavar="FILE", type=filled_path, help="next to the checkpoint by default; the JSON is FILE.json"
    )
    options = parser.options(argv[1:])
    set_up_messages()
    with writing(options.output or options.ckpt_path, "export"):
        written = export(options.ckpt_path, options.output, options.format)
    differences = ", ".join(f"batch {size}: {value:.1e}" for size, value in written.differences.items())
    print(f"agrees with eager — largest difference {differences}")
    print(written.path)
    print(written.description)
