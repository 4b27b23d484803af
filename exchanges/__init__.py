"""How each venue speaks: grammars without I/O, and the feeds, environments and schemas as data."""
