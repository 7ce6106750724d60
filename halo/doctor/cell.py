"""What is wrong between the devices of a cell, as their retained documents tell it."""

from __future__ import annotations

import shlex
from collections import defaultdict

from halo.cell.messages import ModelId, Profile
from halo.cell.view import View
from halo.doctor.finding import Finding, bad, named, ok, warn
from halo.doctor.models import ModelFile
from halo.words import shortened


def examine_cell(view: View, model: ModelFile | None = None) -> list[Finding]:
    """All findings about a cell."""
    return [members(view), versions(view), models(view, model), room(view, model), variants(view), datagrams(view)]


@named("cell-members")
def members(view: View) -> Finding:
    """Who is there, and who will not serve for another reason than its model."""
    hub = (
        "no hub"
        if view.lease is None
        else f"hub {view.lease.hub}{'' if view.beating else ', whose heartbeat has stopped'}"
    )
    names = sorted(view.roster.profiles)
    measured = f"{hub}; {'workers ' + shortened(names) if names else 'no workers'}"
    refused = [p for p in _profiles(view) if p.state == "refused" and not _other_model(view, p)]
    if not refused:
        return ok(measured)
    return warn(
        f"{measured}; " + "; ".join(f"{p.name} refuses: {p.reason}" for p in refused),
        "these devices do not help, and the others compute their share",
        "# on the hub, with a context that fits into their memory:",
        "halo generate -c 1024 ...",
    )


@named("cell-versions")
def versions(view: View) -> Finding:
    """Whether all speak our version of the protocol."""
    strangers = [f"{name}: {why}" for name, why in sorted(view.roster.strangers.items())]
    if view.foreign_hub is not None:
        strangers.insert(0, f"the hub: {view.foreign_hub}")
    if not strangers:
        return ok("all speak this version of the protocol" if view.lease or view.roster.profiles else "nobody is there")
    return bad(
        shortened(strangers),
        "devices of different versions ignore one another",
        "# on each device, from the same version of your clone:",
        "git pull && pip install --upgrade .",
    )


@named("cell-models")
def models(view: View, model: ModelFile | None = None) -> Finding:
    """Whether all have the same model file: the hub's, else that of `model`, else one and the same."""
    holders: dict[str, list[str]] = defaultdict(list)
    known: dict[str, ModelId] = {}
    for name, held in _held(view, model):
        mark = next((mark for mark, one in known.items() if one.is_same(held)), _mark(held))
        holders[mark].append(name)
        known.setdefault(mark, held)
    if len(holders) <= 1:
        return ok("; ".join(f"{m.name} ({m.file}, {mark}) everywhere" for mark, m in known.items()) or "nobody has one")
    wanted, *others = list(holders)  # the first is the one to follow (see _held)
    strays = [name for other in others for name in holders[other]]
    return bad(
        "; ".join(f"{known[i].name} ({known[i].file}, {i}): {shortened(holders[i])}" for i in holders),
        f"a worker with another file than the hub's refuses to serve: {len(strays)} of "
        f"{sum(map(len, holders.values()))} devices do not help",
        # No name that came over the network stands in a command: somebody will paste it into a shell.
        f"# copy the file of {holders[wanted][0]} to each of {shortened(strays)}, and start it again with that:",
        "scp MODEL.gguf DEVICE:",
        "halo worker -m MODEL.gguf --broker URL",
    )


def _mark(model: ModelId) -> str:
    """So many digits of both as people compare."""
    return model.identity[:12] + (f"-{model.content[:6]}" if model.content else "")


def _held(view: View, model: ModelFile | None) -> list[tuple[str, ModelId]]:
    """Who has which model; first the one that decides."""
    held = []
    if view.lease is not None:
        held.append((f"hub {view.lease.hub}", view.lease.model))
    if model is not None:
        held.append(("this device", ModelId.of(model)))
    return held + [(p.name, p.model) for p in _profiles(view) if p.model is not None]


@named("cell-memory")
def room(view: View, model: ModelFile | None = None) -> Finding:
    """Whether each worker's memory holds the whole model, as it has to without `--residency shards`."""
    if model is None:
        return ok("with -m MODEL: compared with what the model needs")
    small = [
        f"{p.name} ({p.memory_bytes / 1e9:.1f} GB)" for p in _profiles(view) if p.memory_bytes < model.packed_bytes
    ]
    if not small:
        return ok(f"each worker's holds {model.name} ({model.packed_bytes / 1e9:.2f} GB)")
    return bad(
        f"{shortened(small)}: less than the {model.packed_bytes / 1e9:.2f} GB of {model.name}",
        "a worker holds the whole model, unless the hub shares it out, and refuses what does not fit",
        "halo generate --residency shards ...   # on the hub: each worker holds a part",
        "# or a smaller quantisation of the model on every device:",
        f"llama-quantize --allow-requantize {shlex.quote(str(model.path))} smaller.gguf Q4_0",
    )


@named("cell-kernels")
def variants(view: View) -> Finding:
    """Which kernel variants compute; nothing to mend, but worth knowing."""
    found = sorted({p.isa for p in _profiles(view)})
    if len(found) <= 1:
        return ok(", ".join(found) or "no workers")
    return ok(f"{', '.join(found)}: the same text with any number of workers is promised for one variant only")


@named("cell-datagrams")
def datagrams(view: View) -> Finding:
    """Whom datagrams do not reach: as a hub that runs has found, else who offers none."""
    links = [link for p in _profiles(view) if (link := view.link(p.name)) is not None]
    if links:
        stray = [f"{link.name}: {link.reason}" for link in links if link.reason]
        measured = f"hub and workers exchange them: {shortened([link.name for link in links])}"
        if any(link.transport == "mqtt" and not link.reason for link in links):
            measured = "the hub was told to do without (--transport mqtt)"
    else:
        stray = [f"{p.name}: it offers none" for p in _profiles(view) if p.datagrams is None]
        measured = "seen only while a hub runs with its workers"
    if not stray:
        return ok(measured)
    return warn(
        shortened(stray),
        "partials of these travel over MQTT, where one lost packet can stall a token for 200 ms",
        "# on each of these, where a firewall is: let the hub's UDP in, to all ports, or to its --udp-port",
        "sudo ufw allow proto udp from HUB_ADDRESS",
        "# and see there whether datagrams can be sealed:",
        "halo doctor",
    )


def _profiles(view: View) -> list[Profile]:
    return [profile for _, profile in sorted(view.roster.profiles.items())]


def _other_model(view: View, profile: Profile) -> bool:
    return view.lease is not None and profile.model is not None and not profile.model.is_same(view.lease.model)
