// Argument: folder|jobs, where jobs is a file of lines "key, tab, format, tab, path, ...". For each
// job, KEY.raw gets the voxels and KEY.json what else ImageJ read, last of all.
arguments = split(getArgument(), "|");
folder = arguments[0];
jobs = split(File.openAsString(arguments[1]), "\n");
setBatchMode(true);
for (job = 0; job < jobs.length; job++) {
  fields = split(jobs[job], "\t");
  out = folder + "/" + fields[0];
  if (fields[1] == "rois") told = drawn(fields, out);
  else {
    if (fields[1] == "png") File.openSequence(fields[2]);
    else open(fields[2]);
    told = shown(out);
  }
  File.saveString("{" + told + "}", out + ".json");
  run("Close All");
}

function shown(out) {
  told = "" + shape() + ", " + voxels() + ", \"info\": " + quoted(getMetadata("Info"));
  getMinAndMax(black, white);
  told = told + ", \"window\": [" + black + ", " + white + "]";
  saveAs("Raw Data", out + ".raw");
  // What the screen shows, colours included.
  if (bitDepth() < 24) run("RGB Color");
  saveAs("Raw Data", out + ".rgb");
  return told;
}

// Fill each ROI of the ROI Manager with its number, from 1, in an empty stack.
function drawn(fields, out) {
  size = split(fields[5], ",");
  newImage("drawn", "16-bit black", size[2], size[1], size[0]);
  told = "" + shape() + ", \"rois\": [";
  roiManager("reset");
  roiManager("Open", fields[2]);
  for (roi = 0; roi < roiManager("count"); roi++) {
    roiManager("select", roi);
    Roi.getPosition(channel, slice, frame);
    if (roi > 0) told = told + ", ";
    name = Roi.getName;
    colour = Roi.getStrokeColor;
    told = told + "{\"name\": " + quoted(name) + ", \"slice\": " + slice;
    told = told + ", \"area\": " + getValue("Area raw");
    told = told + ", \"colour\": " + quoted(colour) + "}";
    run("Set...", "value=" + (roi + 1) + " slice");
  }
  run("Select None");
  saveAs("Raw Data", out + ".raw");
  return told + "]";
}

function shape() {
  Stack.getDimensions(width, height, channels, slices, frames);
  return "\"bits\": " + bitDepth() + ", \"shape\": [" + slices + ", " + height + ", " + width + "]" +
    ", \"channels\": " + channels + ", \"frames\": " + frames;
}

function voxels() {
  getVoxelSize(width, height, depth, unit);
  return "\"voxel\": [" + d2s(depth, 9) + ", " + d2s(height, 9) + ", " + d2s(width, 9) + "]" +
    ", \"unit\": " + quoted(unit);
}

function quoted(text) {
  text = replace(text, "\n", "\\n");
  return "\"" + text + "\"";
}
