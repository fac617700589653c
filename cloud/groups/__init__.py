"""Consumer groups: who reads which partitions, by Kafka's classic group protocol. No sockets, no clock of its own."""
