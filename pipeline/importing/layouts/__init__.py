"""The foreign layouts that are read, one file each; `pipeline.importing.layout.LAYOUTS` finds these and others."""
