// The choice is made anew for each message.
#include "wire/carriers.h"

namespace halo {

void Carriers::open_datagrams(Endpoint::Deliver deliver, bool only) {
  datagrams_ = std::make_unique<Endpoint>(std::move(deliver));
  only_ = only;
}

void Carriers::send(const std::vector<Parcel>& parcels) {
  Endpoint::Messages datagrams;
  Outgoing outgoing;
  for (const Parcel& p : parcels) {
    if (p.datagrams) {
      datagrams.emplace_back(p.peer, p.message);
    } else {
      outgoing.push_back({p.worker, p.attempt, *p.message});
    }
  }
  if (!datagrams.empty()) datagrams_->send(datagrams);
  if (!outgoing.empty()) post_(std::move(outgoing));
}

}  // namespace halo
