"""`halo doctor`: what hurts HALO on this device and in its cell."""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
from pathlib import Path

from halo.cell.address import Address
from halo.cell.loop import errors_in_one_line
from halo.cell.topics import Topics
from halo.cell.view import look
from halo.cli.console import complain, patience, say
from halo.cli.options import Commands, add_cell, add_model, broker_of, command, named_variable
from halo.doctor import Finding, System, examine_device
from halo.doctor.broker import examine_broker
from halo.doctor.cell import examine_cell
from halo.doctor.models import ModelFile, read_model
from halo.doctor.report import as_json, as_text, hurts
from halo.errors import BrokerError, CellError, MissingExtraError, ModelError

_WHAT = "find what hurts HALO on this device, at its broker and in its cell, and print what mends it"
_EXAMPLES = """\
  halo doctor                                     this device alone
  halo doctor --broker mqtt://pi1 -m model.gguf   with the broker, the cell, and the memory that the model needs
  halo doctor --broker mqtt://pi1 --json

Each finding says what was measured, what that costs, and the command that mends it. Nothing is changed, and
nothing needs root. Run it on every device: each has its own settings. It takes up to 8 seconds with a broker.

  bad      stops HALO, or makes it several times slower
  warn     costs speed or safety
  unknown  could not be measured here, and why
  ok       as it should be

exit code: 0 nothing hurts, 1 something is bad or to be warned of, 2 the examination could not begin
(wrong usage, or a --broker or --cell that cannot be one). What is unknown does not count.
"""
_BEAT_S = 1.5


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = command(commands, "doctor", _WHAT, _EXAMPLES, run)
    add_cell(parser)
    add_model(parser, default="memory is not compared with a model")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Examine, print, done."""
    try:
        url, topics = broker_of(args), Topics(args.cell)
        address = None if url is None else Address.parse(url)
    except (BrokerError, CellError) as error:
        complain(str(named_variable(args, error)))
        return 2
    findings, model = _model(args.model)
    system = System()
    if address is None:
        say("no broker was named: this device alone is examined (--broker mqtt://host adds the broker and its cell)")
        findings += examine_device(system, model=model)
    else:
        with patience(f"examining the broker at {address}"):
            outside, broker_ip = asyncio.run(_outside(address, topics, model))
        findings += outside + examine_device(system, model=model, tls=address.tls, broker_ip=broker_ip)
    print(json.dumps(as_json(findings), indent=2) if args.json else as_text(findings))
    return 1 if hurts(findings) else 0


def _model(path: str | None) -> tuple[list[Finding], ModelFile | None]:
    if path is None:
        return [], None
    try:
        return [], read_model(Path(path))
    except ModelError as error:
        why = "a device without a usable model file takes no part"
        mend = f"ls -l {shlex.quote(path)}   # and on the device that has it"
        return [Finding("model", "bad", str(error), why, (mend,))], None
    except MissingExtraError as error:
        why = "a device that cannot convert the model takes no part"
        return [Finding("model", "bad", str(error), why, ("pip install 'halo-llm[convert]'",))], None
    except ImportError as error:  # the native module: another finding says what to do
        return [Finding("model", "unknown", f"it cannot be opened: {error}")], None


async def _outside(address: Address, topics: Topics, model: ModelFile | None) -> tuple[list[Finding], str | None]:
    """What is to say of the broker and the cell, and the broker's IP address where it was reached."""
    errors_in_one_line(asyncio.get_running_loop(), say)
    findings, figures = await examine_broker(address, topics)
    if figures is None:
        return findings, None
    if figures.delivers:
        try:
            findings += examine_cell(await look(address, topics, _BEAT_S, links=True), model)
        except BrokerError as error:
            findings.append(Finding("cell", "unknown", str(error)))
    return findings, figures.ip
