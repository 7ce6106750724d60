// What is counted and measured of a link, and one end of a link alone, for tests: no socket, no clock.
#include "wire/channel.h"

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "bindings/bindings.h"

namespace halo {

py::dict packet_counts(const ChannelCounters& c) {
  py::dict d;
  d["packets_sent"] = c.packets_sent;
  d["packets_received"] = c.packets_received;
  d["bytes_sent"] = c.bytes_sent;
  d["bytes_received"] = c.bytes_received;
  d["message_bytes_sent"] = c.message_bytes_sent;
  d["message_bytes_received"] = c.message_bytes_received;
  d["repairs"] = c.repairs;
  d["timeouts"] = c.timeouts;
  d["restored"] = c.restored;
  d["duplicates"] = c.duplicates;
  d["forged"] = c.forged;
  d["replayed"] = c.replayed;
  d["malformed"] = c.malformed;
  d["dropped"] = c.dropped;
  return d;
}

py::dict link_dict(const LinkReport& r) {
  py::dict d;
  d["rtt_ms"] = r.known ? py::object(py::float_(r.round_trip_ms)) : py::object(py::none());
  d["jitter_ms"] = r.known ? py::object(py::float_(r.jitter_ms)) : py::object(py::none());
  d["loss_to"] = r.loss_out;
  d["loss_from"] = r.loss_in;
  d["burst_to"] = r.burst_out;
  d["burst_from"] = r.burst_in;
  d["goodput"] = r.goodput;
  return d;
}

namespace {

std::unique_ptr<Channel> make_channel(uint32_t channel, int cipher, const std::string& out_key,
                                      const std::string& out_iv, const std::string& in_key, const std::string& in_iv) {
  if (cipher != 1 && cipher != 2) throw std::invalid_argument("ciphers are 1 and 2");
  if (out_key.size() != kKeyBytes || in_key.size() != kKeyBytes || out_iv.size() != kIvBytes ||
      in_iv.size() != kIvBytes) {
    throw std::invalid_argument("a key has 32 bytes, and an iv 12");
  }
  const auto data = [](const std::string& bytes) { return reinterpret_cast<const uint8_t*>(bytes.data()); };
  return std::make_unique<Channel>(0, channel, static_cast<Cipher>(cipher), data(out_key), data(out_iv), data(in_key),
                                   data(in_iv));
}

py::list datagrams(const Outbox& out) {
  py::list packets;
  for (size_t i = 0; i < out.size(); ++i) {
    packets.append(py::bytes(reinterpret_cast<const char*>(out[i].packet.bytes), out[i].packet.size));
  }
  return packets;
}

py::tuple receive(Channel& channel, const py::bytes& datagram, Micros now) {
  const auto [data, size] = view_of(datagram);
  std::vector<Bytes> complete;
  const Channel::Verdict verdict = channel.receive(data, size, now, complete);
  py::list messages;
  for (const Bytes& m : complete) messages.append(to_bytes(m));
  const char* word = verdict == Channel::Verdict::Bad ? "bad" : verdict == Channel::Verdict::Old ? "old" : "newest";
  return py::make_tuple(messages, word);
}

}  // namespace

void bind_channel(py::module_& m) {
  py::class_<Channel>(m, "Channel", "One end of a link: messages in, datagrams out, and back. Times are microseconds.")
      .def(py::init(&make_channel), py::arg("channel"), py::arg("cipher"), py::arg("out_key"), py::arg("out_iv"),
           py::arg("in_key"), py::arg("in_iv"))
      .def(
          "send",
          [](Channel& c, const py::bytes& message, Micros now) {
            const auto [data, size] = view_of(message);
            Outbox out;
            c.send(data, size, now, out);
            return datagrams(out);
          },
          py::arg("message"), py::arg("now"))
      .def(
          "ping",
          [](Channel& c, Micros now) {
            Outbox out;
            c.ping(false, now, out);
            return datagrams(out);
          },
          py::arg("now"))
      .def("receive", &receive, py::arg("datagram"), py::arg("now"))
      .def(
          "work",
          [](Channel& c, Micros now) {
            Outbox out;
            c.work(now, out);
            return datagrams(out);
          },
          py::arg("now"))
      .def(
          "next_work",
          [](const Channel& c) {
            const Micros next = c.next_work();
            return next == Channel::kNever ? std::nullopt : std::optional(next);
          },
          "When `work` is to be called; None: never.")
      .def("counters", [](const Channel& c) { return packet_counts(c.counters()); })
      .def("report", [](const Channel& c) { return link_dict(c.report()); })
      .def_property_readonly_static("MAX_MESSAGE", [](const py::object&) { return Channel::kMaxMessage; });
}

}  // namespace halo
