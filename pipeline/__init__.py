"""The writer: corpus -> tokens and spans -> teacher states -> shards. The only place that runs a teacher."""
