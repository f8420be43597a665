"""Records channels between our own ends, and shows what tshark reads in them with the key log and without."""
